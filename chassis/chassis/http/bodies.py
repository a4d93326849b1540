"""Limits what is read of bodies: the length of each, and the bytes of all that a process holds at a time.

Nothing is decided before an endpoint reads the body. So a request without a valid token is refused for that, however
long its body is, and none of it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HELD_BYTES_MAX: Final = 33_554_432
"""Long bodies of all requests that a process holds, and as much of short ones. Parsed, they take ten times as much."""
SHORT_BYTES_MAX: Final = 65_536
"""A body that declares at most this is short: it waits for no long one."""
RETRY_AFTER_S: Final = 1
CLOSE: Final = {"Connection": "close"}
"""What is left of the body is not read."""


class Budget:
    """The bytes of bodies that a process may still hold. The event loop's thread uses it."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self._left = bytes_max

    def take(self, count: int) -> None:
        """Take so many bytes for a body. Raises HTTPException (503) where too many are held already."""
        if count > self._left:
            raise HTTPException(
                503,
                "The service holds as many bodies as it can; send the same request again after Retry-After seconds.",
                headers={"Retry-After": str(RETRY_AFTER_S), **CLOSE},
            )
        self._left -= count

    def give_back(self, count: int) -> None:
        """Give back what was taken for a body."""
        self._left += count


class BodyLimit:
    """Responds 413 to a body of more bytes than its path accepts, whether or not it declares its length.

    It responds 503 while the process holds too many bytes of bodies. Bytes count when they have come: a client cannot
    take what it does not send.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        body_bytes_max: int,
        body_bytes_max_of: Mapping[str, int],
        held_bytes_max: int = HELD_BYTES_MAX,
    ) -> None:
        self._app = app
        self._bytes_max = body_bytes_max
        self._bytes_max_of = body_bytes_max_of
        self._short, self._long = Budget(held_bytes_max), Budget(held_bytes_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        declared = _declared(scope)
        budget = self._short if declared is not None and declared <= SHORT_BYTES_MAX else self._long
        body = _Body(receive, declared or 0, self._bytes_max_of.get(scope["path"], self._bytes_max), budget)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()


class _Body:
    """One body on its way."""

    def __init__(self, receive: Receive, declared: int, bytes_max: int, budget: Budget) -> None:
        self._receive = receive
        self._declared = declared
        self._bytes_max = bytes_max
        self._budget = budget
        self._received = 0

    async def receive(self) -> Message:
        """Return the next part. Raises HTTPException where the body is too long, or too many bytes are held."""
        self._check(self._declared)
        message = await self._receive()
        length = len(message.get("body", b""))
        self._check(self._received + length)
        self._budget.take(length)
        self._received += length
        return message

    def release(self) -> None:
        """Give back what the body took."""
        self._budget.give_back(self._received)

    def _check(self, length: int) -> None:
        if length > self._bytes_max:
            too_long = f"The body is longer than {self._bytes_max} bytes; send fewer items in one request."
            raise HTTPException(413, too_long, headers=CLOSE)


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _declared(scope: Scope) -> int | None:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(declared) if declared.isdigit() else None
