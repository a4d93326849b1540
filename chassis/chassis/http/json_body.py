"""What every service accepts: JSON whose members have one value each, no content coding, headers with one value.

A body is read after the endpoint's guards have admitted the request. A long one is parsed and validated on another
thread, one at a time: the event loop serves the other requests meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, get_origin

from anyio import CapacityLimiter, to_thread
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.http.admission import guards_of
from chassis.values.json_text import JsonFlaw, check_sizes, parse

IDENTITY: Final = "identity"
COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and zlib begin, with which no JSON can begin."""

SINGLE_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID")
"""The headers on which a response depends. Of two values a proxy may believe the first and a service the last."""
INLINE_BYTES_MAX: Final = 32_768
"""A cart of 200 lines has 10 kB. A body of this length is validated in a few milliseconds, whatever it holds."""
DETAILS_MAX: Final = 20_000
"""Errors that are described. More are only counted: pydantic describes all of them or none, and nothing else runs
meanwhile."""
SHOWN_MAX: Final = 50

Handle: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]
Details: TypeAlias = Sequence[Mapping[str, Any]]

_one_at_a_time = CapacityLimiter(1)
"""More would compete for the same processor, and a parsed body takes ten times the memory."""


class FlawedBody(HTTPException):
    """A body with a JsonFlaw. FastAPI passes an HTTPException on as it is."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)


class AmbiguousHeader(HTTPException):
    """A header with two different values, of which only one can be meant."""

    def __init__(self, name: str) -> None:
        super().__init__(400, f"The header {name} is given twice, with different values; send one.")


class InvalidBody(HTTPException):
    """A body that its endpoint's type refuses, with pydantic's first errors; without them there are too many."""

    def __init__(self, details: Details, count: int) -> None:
        super().__init__(422)
        self.details = details
        self.count = count


def details_of(error: ValidationError) -> Details:
    """Return the first errors as pydantic describes them; none where there are more than DETAILS_MAX."""
    if error.error_count() > DETAILS_MAX:
        return ()
    described = error.errors(include_url=False, include_input=False)
    return [dict(each) for each in described[:SHOWN_MAX]]


class JsonRequest(Request):
    """A request whose JSON is parsed as ``parse`` does. ``adapter`` validates a long body, None for any value."""

    def __init__(self, scope: Scope, receive: Receive, adapter: TypeAdapter[Any] | None) -> None:
        super().__init__(scope, receive)
        self._adapter = adapter

    async def json(self) -> Any:
        """Return the body's value, of a long body as an instance of the endpoint's type.

        Raises FlawedBody, InvalidBody, or what ``parse`` raises on a text that is no JSON.
        """
        body = await self.body()
        try:
            if len(body) <= INLINE_BYTES_MAX:
                return parse(body)
            return await to_thread.run_sync(self._validated, body, limiter=_one_at_a_time)
        except JsonFlaw as flaw:
            raise FlawedBody(str(flaw)) from flaw

    def _validated(self, body: bytes) -> Any:
        value = parse(body)
        check_sizes(value)
        if self._adapter is None:
            return value
        try:
            # FastAPI validates it as well, and takes an instance of the type as it is.
            return self._adapter.validate_python(value, from_attributes=True)
        except ValidationError as error:
            raise InvalidBody(details_of(error), error.error_count()) from None


class JsonRoute(APIRoute):
    """A route whose headers and query parameters have one value, but for a parameter that is declared as a list.

    It reads its body when its guards have admitted the request. The body is parsed as ``parse`` does.

    Every router names it as its ``route_class``.
    """

    def get_route_handler(self) -> Handle:
        """Return FastAPI's handler, after the guards and with a JsonRequest."""
        handle = super().get_route_handler()
        guards = tuple(guards_of(self.dependant))
        names = dict(_query_names(self.dependant))
        adapter = self._adapter()

        async def strictly(request: Request) -> Response:
            _check_single(request)
            _check_query(request, names)
            for guard in guards:
                await guard.admit(request)
            return await handle(JsonRequest(request.scope, request.receive, adapter))

        return strictly

    def _adapter(self) -> TypeAdapter[Any] | None:
        """Return what validates a body that is one value of one type, which is every body of ours."""
        field: Any = self.body_field
        return None if field is None or self._embed_body_fields else field._type_adapter


def _check_single(request: Request) -> None:
    for name in SINGLE_HEADERS:
        if len(set(request.headers.getlist(name))) > 1:
            raise AmbiguousHeader(name)


def _query_names(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the names of an endpoint's query parameters, each with whether it is a list."""
    for parameter in dependant.query_params:
        yield parameter.alias, get_origin(parameter.field_info.annotation) is list
    for each in dependant.dependencies:
        yield from _query_names(each)


def _check_query(request: Request, names: Mapping[str, bool]) -> None:
    """Refuse a parameter that is not the endpoint's, or is given twice and is no list.

    A filter would be missing, or another's.
    """
    given = Counter(name for name, _ in request.query_params.multi_items())
    flaws = [
        {"type": "unknown_parameter" if name not in names else "repeated_parameter", "loc": ("query", name)}
        for name, count in given.items()
        if name not in names or (count > 1 and not names[name])
    ]
    if flaws:
        raise RequestValidationError(flaws[:SHOWN_MAX])


class PlainBody:
    """Responds 415 to a body with a content coding, whether or not the coding is announced."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = b",".join(value for name, value in scope["headers"] if name == b"content-encoding")
        codings = {coding.strip().lower() for coding in announced.decode("latin-1").split(",")} - {"", IDENTITY}
        first = b""
        """The first bytes of the body, at most as many as tell a coding."""
        decided = False

        async def plain() -> Message:
            nonlocal first, decided
            message = await receive()
            if not decided and message["type"] == "http.request":
                first += message.get("body", b"")[:4]
                decided = len(first) >= 4 or not message.get("more_body", False)
                if first and codings:
                    raise _coded("The body has a content coding; send it as it is, without Content-Encoding.")
                if first.startswith(COMPRESSED):
                    raise _coded("The body is compressed; send it as it is.")
            return message

        await self._app(scope, plain, send)


def _coded(detail: str) -> HTTPException:
    return HTTPException(415, detail, headers={"Accept-Encoding": IDENTITY})
