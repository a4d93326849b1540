"""Calls an endpoint once: signed, within 15 s in all, at an address that was checked for this very call.

It follows no redirect, uses no proxy, keeps no connection, and returns nothing of the response's body.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Final, TypeAlias

from urllib3 import HTTPConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError, SSLError
from urllib3.response import BaseHTTPResponse

from chassis.http.timed_connections import AddressInfo, ending_by, pool_of
from notifier.model.addresses import ForbiddenAddress, ForbiddenUrl, Rules, Target
from notifier.model.schedule import Answer, Outcome, outcome_of

TIMEOUT_S: Final = 15.0
"""The whole call, with the lookup of the name, as the standard recommends."""
LOOKUP_WITHIN_S: Final = 5.0
CONNECT_WITHIN_S: Final = 5.0
BODY_WITHIN_S: Final = 1.0
BODY_BYTES_MAX: Final = 16_384
"""What is read of a response, so that the endpoint need not see a reset connection. None of it is kept."""
USER_AGENT: Final = "Baraza-Webhooks/1"

Resolve: TypeAlias = Callable[[str, int], Sequence[AddressInfo]]
"""Returns a name's addresses, as ``socket.getaddrinfo`` does. Raises OSError."""


def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Return the addresses of a host, by the system's resolver."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class UnknownName(OSError):
    """A name has no address, or was not found in time."""


class CheckedLookup:
    """The addresses of one call: looked up once, checked, and then connected to. No second lookup can differ."""

    def __init__(self, target: Target, rules: Rules, look_up: Resolve) -> None:
        self._target = target
        self._rules = rules
        self._look_up = look_up

    def find(self, timeout_s: float) -> Sequence[AddressInfo]:
        """Return the addresses. Raises UnknownName without one, ForbiddenAddress where one must not be called."""
        result: Future[Sequence[AddressInfo]] = Future()
        threading.Thread(target=self._run, args=(result,), name="lookup", daemon=True).start()
        try:
            found = result.result(max(0.0, timeout_s))
        except (OSError, UnicodeError) as error:
            raise UnknownName(f"{self._target.host} was not found") from error
        self._rules.check(str(address[0]) for _, _, _, _, address in found)
        return found

    def expire(self) -> None:
        """There is nothing to expire: a call looks its name up once."""

    def _run(self, result: Future[Sequence[AddressInfo]]) -> None:
        try:
            result.set_result(self._look_up(self._target.host, self._target.port))
        except Exception as error:  # whatever it is, the call must not wait for it any longer
            result.set_exception(error)


class Caller:
    """Calls endpoints by these rules. ``look_up`` and ``tls`` are what a test replaces."""

    def __init__(self, rules: Rules, *, look_up: Resolve = resolve, tls: ssl.SSLContext | None = None) -> None:
        self._rules = rules
        self._look_up = look_up
        self._tls = tls or ssl.create_default_context()

    def check(self, url: str, *, is_live: bool) -> None:
        """Check an address before it is stored. Raises ForbiddenUrl, ForbiddenAddress, or UnknownName."""
        target = self._rules.target(url, is_live=is_live)
        CheckedLookup(target, self._rules, self._look_up).find(LOOKUP_WITHIN_S)

    def call(
        self, url: str, body: bytes, headers: Mapping[str, str], *, is_live: bool, timeout_s: float = TIMEOUT_S
    ) -> Answer:
        """Post a body, and return what came of it. It raises nothing that an endpoint can cause."""
        ends_s = time.monotonic() + timeout_s
        try:
            target = self._rules.target(url, is_live=is_live)
            pool = self._pool(target)
        except ForbiddenUrl:
            return Answer(outcome=Outcome.ADDRESS_FORBIDDEN)
        try:
            with ending_by(ends_s):
                return _post(pool, target, body, headers)
        except (ForbiddenAddress, HTTPError, OSError, ValueError) as error:
            return Answer(outcome=_outcome_of(error, is_late=time.monotonic() >= ends_s))
        finally:
            pool.close()

    def _pool(self, target: Target) -> HTTPConnectionPool:
        return pool_of(
            target.url,
            1,
            lookup=CheckedLookup(target, self._rules, self._look_up),
            lookup_within_s=LOOKUP_WITHIN_S,
            connect_within_s=CONNECT_WITHIN_S,
            tls=self._tls if target.is_https else None,
        )


def _post(pool: HTTPConnectionPool, target: Target, body: bytes, headers: Mapping[str, str]) -> Answer:
    response = pool.urlopen(
        "POST",
        target.url.request_uri,
        body=body,
        headers={
            **headers,
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "Connection": "close",
        },
        retries=False,
        redirect=False,
        preload_content=False,
        timeout=TIMEOUT_S,
    )
    try:
        _discard_body(response)
    finally:
        response.close()
        response.release_conn()
    return Answer(
        outcome=outcome_of(response.status), status=response.status, retry_after=response.headers.get("Retry-After")
    )


def _discard_body(response: BaseHTTPResponse) -> None:
    """Read some of the body. The status has come, so whatever happens here changes nothing."""
    with suppress(HTTPError, OSError, ValueError), ending_by(time.monotonic() + BODY_WITHIN_S):
        response.read(BODY_BYTES_MAX, decode_content=False)


def _outcome_of(error: Exception, *, is_late: bool) -> Outcome:
    causes = [error, *_causes(error)]
    for kind, outcome in (
        (ForbiddenAddress, Outcome.ADDRESS_FORBIDDEN),
        (UnknownName, Outcome.NAME_UNKNOWN),
    ):
        if any(isinstance(each, kind) for each in causes):
            return outcome
    if isinstance(error, NewConnectionError):  # it is a kind of ConnectTimeoutError
        return Outcome.NOT_CONNECTED
    if is_late or isinstance(error, ConnectTimeoutError | ReadTimeoutError | TimeoutError):
        return Outcome.TIMED_OUT
    return Outcome.TLS_FAILED if isinstance(error, SSLError | ssl.SSLError) else Outcome.BROKEN_ANSWER


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while (cause := error.__cause__ or error.__context__) is not None and cause not in found:
        found.append(cause)
        error = cause
    return found
