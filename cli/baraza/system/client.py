"""The services' HTTP APIs as the command line calls them: with a token of the dev issuer, and errors in one sentence.

It must never read a database: the command line shows nothing that the APIs do not publish.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import httpx

from baraza.system.running import STAFF, TOKEN_FILE
from baraza.terminal import Refusal, UsageRefusal

TIMEOUT_S = 10.0
TOKEN_TTL_S = 3_600
TOKEN_MARGIN_S = 60
"""A token is renewed this long before it expires, so that none expires during a request."""
CONNECTIONS_MAX = 64
STREAM = "text/event-stream"
Params: TypeAlias = Mapping[str, str | int | Sequence[str]]
"""The query of a request; a name with several values is repeated."""
STAFF_ROLES = (
    "storefront", "operator", "support", "catalogue", "finance", "bookkeeper", "teller", "treasury", "approver",
)  # fmt: skip

Json = Any


class Refused(Refusal):
    """A service answered with a problem (RFC 9457); ``status`` and ``problem`` are its answer."""

    def __init__(self, status: int, problem: Mapping[str, Json], text: str) -> None:
        super().__init__(text)
        self.status = status
        self.problem = problem


class NotUnderstood(Refusal):
    """What answers is not the service: a proxy's sign-in page, or another release."""


class Unreachable(Refusal):
    """A service did not answer at all."""


@cache
def trust() -> ssl.SSLContext:
    """Return the authorities that a stack elsewhere may have its certificates from. They take a while to load."""
    return httpx.create_ssl_context(trust_env=False)


class Authorization(Protocol):
    """What has the bearer token of a call."""

    def header(self) -> str:
        """Return the value of the Authorization header."""
        ...


class TokenFile:
    """The bearer token in a file, which is read again for each call: it may be replaced while a command runs."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def header(self) -> str:
        """Return the value of the Authorization header. Raises Refusal where the file has none."""
        try:
            token = self._file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Refusal(f"{TOKEN_FILE} names {self._file}, which cannot be read ({error}); unset it.") from error
        if not token or not token.isascii() or not token.isprintable():
            raise Refusal(f"{TOKEN_FILE} names {self._file}, which holds no token; unset it, or write one there.")
        return f"Bearer {token}"


class Tokens:
    """Bearer tokens from the dev issuer, minted on first use and cached. Thread-safe."""

    def __init__(self, issuer_url: str, *, subject: str = STAFF, roles: Sequence[str] = STAFF_ROLES) -> None:
        self._issuer_url = issuer_url
        self._body = {"sub": subject, "roles": list(roles), "ttl_s": TOKEN_TTL_S}
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at_s = 0.0

    def header(self) -> str:
        """Return the value of the Authorization header."""
        with self._lock:
            if time.monotonic() >= self._renew_at_s:
                self._token = self._mint()
                self._renew_at_s = time.monotonic() + TOKEN_TTL_S - TOKEN_MARGIN_S
            return f"Bearer {self._token}"

    def _mint(self) -> str:
        try:
            # A proxy in the environment is for addresses outside of this machine, as in Api.
            response = httpx.post(
                f"{self._issuer_url}/token", json=self._body, timeout=TIMEOUT_S, trust_env=False, verify=trust()
            )
        except httpx.HTTPError as error:
            raise Unreachable(_unreachable("issuer", self._issuer_url, error)) from error
        answer = _checked("issuer", response)
        return str(answer.get("access_token") or answer["token"])


class Api:
    """One service's API. Thread-safe."""

    def __init__(self, name: str, url: str, tokens: Authorization | None) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._tokens = tokens
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
        self._http = httpx.Client(base_url=self._url, timeout=TIMEOUT_S, limits=limits, trust_env=False, verify=trust())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, params: Params | None = None) -> Json:
        """Return the response's JSON. Raises Refused or Unreachable."""
        return self.call("GET", path, params=params)

    def listed(self, path: str, params: Mapping[str, str | int] | None = None) -> list[Answer]:
        """Return the objects of a response that is a list. Raises Refused, Unreachable or NotUnderstood."""
        response = self.send("GET", path, params=params)
        if not response.is_success:
            self.check(response)
        return objects({"the answer": _parsed(response.content)}, "the answer")

    def upload(self, path: str, content: bytes, params: Mapping[str, str | int]) -> Json:
        """Send a file as it is, and return the response's JSON. Raises Refused or Unreachable."""
        return self.check(self.send("POST", path, content=content, params=params, headers={"Content-Type": "text/csv"}))

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Json = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Make one call and return the response's JSON (an empty object for none). Raises Refused or Unreachable."""
        return self.check(self.send(method, path, body=body, params=params, headers=headers))

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Json = None,
        content: bytes | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Make one call and return the response, whatever its status.

        Raises Unreachable where there is none, and UsageRefusal for a text that no request can contain.
        """
        try:
            return self._http.request(
                method, path, json=body, content=content, params=params, headers=self._headers(headers)
            )
        except (UnicodeEncodeError, httpx.InvalidURL) as error:
            raise UsageRefusal(
                f"{self.name} cannot be called with this text ({error}); write it shorter, in UTF-8."
            ) from error
        except httpx.HTTPError as error:
            raise Unreachable(_unreachable(self.name, self._url, error)) from error

    def check(self, response: httpx.Response) -> Json:
        """Return the response's JSON. Raises Refused where its status is an error."""
        return _checked(self.name, response)

    def events(self, path: str, after: str = "") -> Iterator[tuple[str, str, Json]]:
        """Yield the server-sent events of a stream as (id, name, JSON) until it ends, from behind the id ``after``.

        Raises Refused or Unreachable.
        """
        resumed = {"Last-Event-ID": after} if after else {}
        headers = self._headers({"Accept": STREAM, **resumed})
        timeout = httpx.Timeout(TIMEOUT_S, read=None)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    _checked(self.name, response)
                if STREAM not in response.headers.get("Content-Type", ""):
                    raise NotUnderstood(f"{self.name} at {self._url} does not answer with events. Run ./baraza status.")
                yield from _events(response.iter_lines())
        except httpx.HTTPError as error:
            raise Unreachable(_unreachable(self.name, self._url, error)) from error

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        own = {} if self._tokens is None else {"Authorization": self._tokens.header()}
        return {**own, **(headers or {})}


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, Json]]:
    event_id, name, data = "", "message", list[str]()
    for line in lines:
        if not line:
            if data:
                content = _parsed("\n".join(data))
                if not isinstance(content, dict):
                    raise NotUnderstood(f"An event {name!r} holds no JSON object. Run ./baraza status.")
                yield event_id, name, content
            name, data = "message", []
        elif line.startswith("id:"):
            event_id = line.removeprefix("id:").strip()
        elif line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").strip())


class Answer(dict[str, Json]):
    """A JSON object in an answer. A member that it lacks means that something else answers at this address."""

    def __missing__(self, name: str) -> Json:
        raise NotUnderstood(f"An answer lacks {name!r}. Run ./baraza status; is the address that of this release?")


def objects(answer: Mapping[str, Json], name: str) -> list[Answer]:
    """Return the list of objects that an answer has under this name. Raises NotUnderstood where it is none."""
    found = answer[name]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise NotUnderstood(f"{name!r} in an answer is no list of objects. Run ./baraza status.")
    return found


def _checked(name: str, response: httpx.Response) -> Json:
    if response.is_success:
        found = _parsed(response.content) if response.content else Answer()
        if not isinstance(found, dict):
            raise NotUnderstood(
                f"{name} at {response.request.url} does not answer with a JSON object. Run ./baraza status."
            )
        return found
    problem = problem_of(response)
    detail = problem.get("detail") or f"{response.status_code} {response.reason_phrase}"
    raise Refused(response.status_code, problem, f"{name} refused: {detail}")


def _parsed(content: str | bytes) -> Json:
    """Return the content as JSON, its objects as :class:`Answer`; None where it is no JSON."""
    try:
        return json.loads(content, object_hook=Answer)
    except (ValueError, RecursionError):
        return None


def problem_of(response: httpx.Response) -> dict[str, Json]:
    """Return the problem in a response's body; an empty one where there is none."""
    problem = _parsed(response.content)
    return problem if isinstance(problem, dict) else {}


def _unreachable(name: str, url: str, error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"{name} at {url} did not answer in time. See `./baraza status`, and its log in the stack's home."
    return f"{name} at {url} does not answer ({type(error).__name__}). Run ./baraza status; if it is down, ./baraza up."
