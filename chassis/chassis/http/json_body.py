"""What every service accepts: JSON whose members have one value each, no content coding, headers with one value."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.values.json_text import JsonFlaw, parse

IDENTITY: Final = "identity"
COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and zlib begin, with which no JSON can begin."""

SINGLE_HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID")
"""The headers on which a response depends. Of two values a proxy may believe the first and a service the last."""

Handle: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


class FlawedBody(HTTPException):
    """A body with a JsonFlaw. FastAPI passes an HTTPException on as it is."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)


class AmbiguousHeader(HTTPException):
    """A header with two different values, of which only one can be meant."""

    def __init__(self, name: str) -> None:
        super().__init__(400, f"The header {name} is given twice, with different values; send one.")


class JsonRequest(Request):
    """A request whose JSON is parsed as ``parse`` does."""

    async def json(self) -> Any:
        """Return the body's value. Raises FlawedBody, or what ``parse`` raises on a text that is no JSON."""
        try:
            return parse(await self.body())
        except JsonFlaw as flaw:
            raise FlawedBody(str(flaw)) from flaw


class JsonRoute(APIRoute):
    """A route whose headers have one value, and whose body is parsed as ``parse`` does.

    Every router names it as its ``route_class``.
    """

    def get_route_handler(self) -> Handle:
        """Return FastAPI's handler, with a JsonRequest."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            _check_single(request)
            return await handle(JsonRequest(request.scope, request.receive))

        return strictly


def _check_single(request: Request) -> None:
    for name in SINGLE_HEADERS:
        if len(set(request.headers.getlist(name))) > 1:
            raise AmbiguousHeader(name)


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
