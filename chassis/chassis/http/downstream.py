"""The client of an HTTP dependency: limited in time, in concurrency, and in how often it calls a failing dependency.

It calls once. Retries are rows of the service's database, which survive the process; a retry here would be lost with
its thread. Every failure is ``Unavailable``, whose type and fields show if the call may have had its effect.

    Exception
    ├── Unavailable        the dependency returned no usable answer; call again later, under the same key
    │   └── NotTried       it was not called: this was no attempt
    │       └── TooLate    its transaction took so long that the call's time was over: plan it again
    └── UnforeseenAnswer   its answer has no meaning in the adapter; a person must decide
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from chassis.http.breaker import CircuitBreaker, CircuitOpen, CircuitState
from chassis.http.timed_connections import ending_by, pool_of, remaining_s
from chassis.telemetry import metrics
from chassis.values import json_text
from chassis.values.json_text import JsonFlaw

BULKHEAD_WAIT_S = 0.25
"""A permit of the bulkhead is worth a short wait; the retry in the database is the long one."""

BODY_BYTES_MAX = 1_048_576
"""No answer that we understand is nearly as long as one mebibyte."""

RETRY_AFTER_S_MAX = 3600.0
"""A wrong header of a dependency may not postpone a saga for longer than this."""

FAILURES_MAX = 8
"""Failures in a row that open the circuit: more than chance, fewer than the concurrency limit."""

OPEN_S = 5.0
"""How long an open circuit lets no call through."""

IN_PROGRESS = "idempotency_in_progress"
"""The code of a 409 for a key whose first request is still under way."""

REQUEST_NOT_FOUND = "request_not_found"
"""The code of a 404 for a key that was never seen; any other 404 means a wrong address."""


class Unavailable(Exception):
    """The dependency is unavailable: {reason}.

    ``certain_no_effect`` is True only where this call cannot have reached the dependency's work: the circuit is open,
    the bulkhead full, the connection refused, or the answer 429. After a timeout, a 5xx or a lost answer the effect may
    have happened, or may happen later. ``reason`` is the same for every call that failed for the same cause, so that
    reasons can be grouped; ``detail`` is about this call. ``headers`` are those of a 5xx, names in small letters.
    """

    def __init__(
        self,
        reason: str,
        retry_after_s: float | None = None,
        certain_no_effect: bool = False,
        *,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.certain_no_effect = certain_no_effect
        self.detail = detail
        self.headers = headers or {}


class NotTried(Unavailable):
    """Not called: {reason}. The circuit is open, or no permit or thread was free in time."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason, retry_after_s, certain_no_effect=True)


class TooLate(NotTried):
    """Not called: {reason}. The call could have outlasted the deadline that is stored for it; it needs another one."""


class UnforeseenAnswer(Exception):
    """An answer that has no meaning in the adapter. Look at the answer, then extend the adapter."""

    def __init__(self, dependency: str, status: int, code: str, what: str) -> None:
        super().__init__(f"{dependency} answered {status} {code or 'without a code'}: {what}")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer below 500 that is no 429: ``body`` is its JSON object, empty where it has none.

    One of 500 and above is an answer where the dependency says so much by it that its adapter reads it.
    The names of ``headers`` are in small letters.
    """

    dependency: str
    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """Return the problem's code (RFC 9457 extension), or an empty text."""
        code = self.body.get("code")
        return code if isinstance(code, str) else ""

    def text(self, name: str, *, default: str | None = None) -> str:
        """Return a text of the body. Raises UnforeseenAnswer where it is missing and there is no default."""
        value = self.body.get(name, default)
        if not isinstance(value, str):
            raise self.unforeseen(f"{name} is missing or no text")
        return value

    def whole_number(self, name: str) -> int:
        """Return a whole number of the body, for example an amount."""
        value = self.body.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.unforeseen(f"{name} is missing or no whole number")
        return value

    def unforeseen(self, what: str) -> UnforeseenAnswer:
        return UnforeseenAnswer(self.dependency, self.status, self.code, what)


class Downstream:
    """One HTTP dependency, for callers in many threads.

    ``timeout_s`` limits a call from the lookup of the host's name to the last byte of its answer, and so does
    :func:`~chassis.http.timed_connections.ending_by` where it leaves less. Nothing of a call is sent after that.
    ``duration_s_max`` includes the wait for a permit of the bulkhead.
    ``reads_error`` returns whether a body of 500 and above is an answer of the dependency's work, and not a sign that
    it fails. Such an answer is returned as any other one, and the circuit breaker takes it for a sign of life.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        timeout_s: float,
        concurrency_max: int,
        failures_max: int = FAILURES_MAX,
        open_s: float = OPEN_S,
        reads_error: Callable[[bytes], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.breaker = CircuitBreaker(name, failures_max=failures_max, open_s=open_s, clock=clock)
        metrics.BREAKER_OPEN.labels(name).set_function(lambda: self.breaker.state is not CircuitState.CLOSED)
        url = urllib3.util.parse_url(base_url)
        self._path = (url.path or "").rstrip("/")
        self._pool = pool_of(url, concurrency_max)
        self._permits = threading.BoundedSemaphore(concurrency_max)
        self._reads_error = reads_error

    @property
    def duration_s_max(self) -> float:
        """The longest that ``request`` takes, in seconds."""
        return BULKHEAD_WAIT_S + self.timeout_s

    def request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Call once and return the answer. Raises Unavailable where there is no usable one.

        ``body`` is sent as JSON, ``form`` as an HTML form.
        """
        sent = {"Accept": "application/json", **(headers or {})}
        content: str | None = None
        if form is not None:
            content, sent["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        elif body is not None:
            content, sent["Content-Type"] = json.dumps(body), "application/json"
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        began_s = time.monotonic()
        outcome = "none"
        try:
            response = self._request(method, path, content, sent)
            outcome = str(response.status)
            return response
        except UnforeseenAnswer as error:
            outcome = str(error.status)
            raise
        finally:
            metrics.CALL_SECONDS.labels(self.name, outcome).observe(time.monotonic() - began_s)

    def _request(self, method: str, path: str, content: str | None, headers: Mapping[str, str]) -> Response:
        """Call once.

        1. Wait for a permit of the bulkhead. A call without any time left is not made.
        2. Enter the circuit breaker.
        3. Call, and report the outcome to the breaker: 5xx and no answer are failures, 4xx and 429 a sign of life.
        """
        # 1.
        with self._in_bulkhead():
            if remaining_s() <= 0:
                raise NotTried(f"no time is left for a call to {self.name}")
            # 2.
            try:
                permit = self.breaker.enter()
            except CircuitOpen as error:
                raise NotTried(f"the circuit to {self.name} is open", error.retry_after_s) from error
            # 3.
            alive = False
            try:
                with ending_by(time.monotonic() + self.timeout_s):
                    answer = self._call(method, path, content, headers)
                alive = not self._is_failure(answer)
            finally:
                (self.breaker.succeeded if alive else self.breaker.failed)(permit)
        return self._judge(answer)

    def outcome_of(self, idempotency_key: str) -> Response | None:
        """Return the answer that the dependency has recorded for a key, None where it has never seen the key.

        Raises Unavailable while the key's request is under way. The dependency must answer
        ``GET /v1/requests/{key}`` with the recorded ``status`` and ``body``, or 404 with the code REQUEST_NOT_FOUND.
        """
        response = self.request("GET", f"/v1/requests/{quote(idempotency_key, safe='')}")
        if response.status == HTTPStatus.NOT_FOUND and response.code == REQUEST_NOT_FOUND:
            return None
        body = response.body.get("body")
        if response.status != HTTPStatus.OK or not isinstance(body, dict):
            raise response.unforeseen(f"neither an outcome nor the code {REQUEST_NOT_FOUND}")
        return Response(dependency=self.name, status=response.whole_number("status"), body=body)

    @contextmanager
    def _in_bulkhead(self) -> Iterator[None]:
        if not self._permits.acquire(timeout=max(0.0, min(BULKHEAD_WAIT_S, remaining_s()))):
            reason = f"bulkhead full: no permit for a call to {self.name} within {BULKHEAD_WAIT_S} s"
            raise NotTried(reason)
        try:
            yield
        finally:
            self._permits.release()

    def _call(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> _RawAnswer:
        try:
            response = self._pool.urlopen(
                method,
                self._path + path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=self.timeout_s,
                pool_timeout=math.ceil(self.timeout_s),
                preload_content=False,
            )
            try:
                content = response.read(BODY_BYTES_MAX + 1, decode_content=True)
            finally:
                # A connection whose answer was read to its end is back in the pool already; any other one is closed.
                response.close()
                response.release_conn()
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise Unavailable(f"{self.name} cannot be reached", None, True, detail=str(error)) from error
        except (HTTPError, OSError) as error:
            raise Unavailable(f"{self.name} gave no answer", detail=str(error)) from error
        return _RawAnswer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    def _judge(self, answer: _RawAnswer) -> Response:
        retry_after_s = parse_retry_after(answer.headers.get("retry-after"), datetime.now(UTC))
        if self._is_failure(answer):
            reason = f"{self.name} answered {answer.status}"
            raise Unavailable(reason, retry_after_s=retry_after_s, headers=answer.headers)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Unavailable(f"{self.name} answered 429", retry_after_s=retry_after_s, certain_no_effect=True)
        response = Response(
            dependency=self.name, status=answer.status, body=self._parse(answer), headers=answer.headers
        )
        if response.status == HTTPStatus.CONFLICT and response.code == IN_PROGRESS:
            raise Unavailable(f"{self.name} is still busy with this key", retry_after_s=retry_after_s)
        return response

    def _is_failure(self, answer: _RawAnswer) -> bool:
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return False
        return self._reads_error is None or not self._reads_error(answer.content)

    def _parse(self, answer: _RawAnswer) -> Mapping[str, object]:
        if len(answer.content) > BODY_BYTES_MAX:
            raise UnforeseenAnswer(self.name, answer.status, "", f"the body is larger than {BODY_BYTES_MAX} bytes")
        if not answer.content:
            return {}
        try:
            body = json_text.parse(answer.content)
            json_text.check_texts(body)
        except JsonFlaw as flaw:
            raise UnforeseenAnswer(self.name, answer.status, "", f"the body has no one meaning: {flaw}") from flaw
        except ValueError as error:
            raise UnforeseenAnswer(self.name, answer.status, "", f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise UnforeseenAnswer(self.name, answer.status, "", "the body is no JSON object")
        return body


@dataclass(frozen=True, slots=True)
class _RawAnswer:
    status: int
    headers: Mapping[str, str]
    content: bytes


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header demands (RFC 9110: seconds or a date), None where it has none.

    ``now`` is aware. The result lies between 0 and RETRY_AFTER_S_MAX.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX) if math.isfinite(seconds) else RETRY_AFTER_S_MAX
