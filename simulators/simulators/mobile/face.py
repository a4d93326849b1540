"""How a provider of mobile money serves a request: token, rate of the short code, faults, one effect.

A provider declares its operations and its dialect. This module must not know what any operation does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.clock import MovedClock
from simulators.face import Refused, Reply
from simulators.mobile.faults import ANSWER, OUTCOME, Fault, Kind, Subject, first, met, of_header
from simulators.mobile.records import MobileRecords
from simulators.problems import read_body
from simulators.records import JsonObject
from simulators.short_codes import ShortCode, ShortCodes
from simulators.simulator import DroppedConnection

ACK_LAST_S_MAX = 10.0
POLL_S = 0.02
HTML = "<html><head><title>503 Service Unavailable</title></head><body><h1>Service Unavailable</h1></body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One parsed request of a short code. ``faults`` are those of its answer and its outcome that it meets."""

    records: MobileRecords
    short_code: ShortCode
    now: float
    real: float
    seed: int
    params: JsonObject
    headers: Mapping[str, str]
    target_id: str
    given: tuple[Fault, ...] = ()
    faults: tuple[Fault, ...] = ()

    def text(self, name: str) -> str:
        """Return a parameter as text, empty where it is missing."""
        value = self.params.get(name)
        return "" if value is None else str(value)

    def has(self, kind: Kind) -> bool:
        """Return whether the request meets a fault."""
        return first(self.faults, kind) is not None

    @property
    def kept(self) -> tuple[Fault, ...]:
        """The faults that concern what happens later: a record keeps them."""
        return tuple(each for each in (*self.given, *self.faults) if each.kind not in ANSWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: its name for faults, its path, and what it does inside a transaction on the records.

    ``subject`` returns what faults can match. ``about`` returns what its callbacks are about. ``product`` is what a
    token is for. ``own`` are the kinds of faults of an answer that the operation answers itself.
    """

    name: str
    path: str
    apply: Callable[[Call], Reply]
    subject: Callable[[Call], Subject]
    methods: tuple[str, ...] = ("POST",)
    product: str = ""
    about: Callable[[Reply], str] = lambda _reply: ""
    own: frozenset[Kind] = frozenset()


class Dialect(Protocol):
    """How a provider answers what concerns every operation."""

    def token_of(self, request: Request) -> str:
        """Return the token that a request bears, empty for none."""

    def token_invalid(self, operation: Operation) -> Reply:
        """Return the answer to a token that is not valid for an operation."""

    def not_json(self) -> Reply:
        """Return the answer to a body that is no JSON object."""

    def failed(self, kind: Kind, fault: Fault | None) -> Reply:
        """Return the answer to a request that fails as this kind of fault has it."""


class Limits:
    """How many calls a second each short code has left; a bucket of one second."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}

    def admit(self, short_code: ShortCode, now: float) -> bool:
        """Count a call and return whether it is admitted."""
        allowed = short_code.calls_per_s
        if allowed is None:
            return True
        left, at = self._left.get(short_code.short_code, (max(allowed, 1.0), now))
        left = min(max(allowed, 1.0), left + (now - at) * allowed)
        self._left[short_code.short_code] = (left - 1 if left >= 1 else left, now)
        return left >= 1


class MobileFace:
    """A provider's API over its records, on one event loop."""

    def __init__(
        self, records: MobileRecords, short_codes: ShortCodes, clock: MovedClock, dialect: Dialect, seed: int
    ) -> None:
        self._records = records
        self._short_codes = short_codes
        self._clock = clock
        self._dialect = dialect
        self._seed = seed
        self._limits = Limits()

    def routes(self, operations: Sequence[Operation]) -> tuple[Route, ...]:
        """Return the routes of operations."""
        return tuple(Route(each.path, self._endpoint(each), methods=list(each.methods)) for each in operations)

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await self.perform(operation, request)

        return endpoint

    async def perform(self, operation: Operation, request: Request) -> Response:
        """Answer one request.

        1. Its token, then the rate of its short code.
        2. Its parameters, and the faults that it meets.
        3. Its effect, in one transaction, and the answer.
        """
        # 1.
        token = self._dialect.token_of(request)
        digits = self._records.short_code_of(token, operation.product, self._clock.now())
        short_code = None if digits is None else self._short_codes.numbered(digits)
        if short_code is None:
            return respond(self._dialect.token_invalid(operation))
        if not self._limits.admit(short_code, self._clock.real()):
            return respond(self._dialect.failed(Kind.RATE_LIMITED, None))
        # 2.
        params = _object(await read_body(request), request.query_params)
        if params is None:
            return respond(self._dialect.not_json())
        given = of_header(operation.name, request.headers.get("x-fault", ""))
        call = Call(
            records=self._records, short_code=short_code, now=self._clock.now(), real=self._clock.real(),
            seed=self._seed, params=params, headers=request.headers,
            target_id=request.path_params.get("id", ""), given=given,
        )  # fmt: skip
        call = self._with_faults(operation, call)
        # 3.
        return await self._run(operation, call)

    def _with_faults(self, operation: Operation, call: Call) -> Call:
        if not self._records.faults():
            return replace(call, faults=tuple(each for each in call.given if each.kind in ANSWER | OUTCOME))
        with self._records.transaction():
            found = met(self._records, operation.subject(call), ANSWER | OUTCOME, now=call.now, seed=self._seed)
        own = tuple(each for each in call.given if each.kind in ANSWER | OUTCOME)
        return replace(call, faults=(*own, *found))

    async def _run(self, operation: Operation, call: Call) -> Response:
        fault = first(call.faults, *(ANSWER - operation.own))
        if fault is None:
            return respond(self._apply(operation, call))
        match fault.kind:
            case Kind.SLOW:
                reply = self._apply(operation, call)
                await asyncio.sleep(fault.delay_s)
                return respond(reply)
            case Kind.ACK_LAST:
                reply = self._apply(operation, call)
                await self._until_called_back(operation.about(reply), fault.delay_s)
                return respond(reply)
            case Kind.HANG | Kind.ANSWER_LOST:
                self._maybe(operation, call, fault)
                await asyncio.sleep(fault.delay_s if fault.kind is Kind.HANG else 0.0)
                return DroppedConnection()
            case Kind.HTML | Kind.EMPTY:
                self._maybe(operation, call, fault)
                page, kind = (HTML, "text/html") if fault.kind is Kind.HTML else ("", "application/json")
                return Response(page, fault.status or (503 if page else 200), media_type=kind)
            case Kind.ERROR_AFTER | Kind.EMPTY_CODE:
                self._maybe(operation, call, fault)
                return respond(self._dialect.failed(fault.kind, fault))
            case Kind.TOKEN_INVALID:
                return respond(self._dialect.token_invalid(operation))
            case _:
                return respond(self._dialect.failed(fault.kind, fault))

    def _maybe(self, operation: Operation, call: Call, fault: Fault) -> None:
        if fault.effect:
            self._apply(operation, call)

    def _apply(self, operation: Operation, call: Call) -> Reply:
        try:
            with self._records.transaction():
                return operation.apply(call)
        except Refused as refused:
            return refused.reply

    async def _until_called_back(self, about: str, at_least_s: float) -> None:
        """Wait until the callbacks about something were sent, and no longer than ten seconds."""
        waited_s = 0.0
        while waited_s < ACK_LAST_S_MAX:
            await asyncio.sleep(POLL_S)
            waited_s += POLL_S
            is_sent = bool(self._records.callbacks(about)) and not self._records.unsent(about)
            if is_sent and waited_s >= at_least_s:
                return


def _object(body: bytes, query: Mapping[str, str]) -> JsonObject | None:
    if not body:
        return dict(query)
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def respond(reply: Reply) -> Response:
    """Return an answer; one without a body is empty."""
    if not reply.body and reply.status == 202:
        return Response(status_code=reply.status, headers=dict(reply.headers))
    return JSONResponse(reply.body, reply.status, dict(reply.headers))
