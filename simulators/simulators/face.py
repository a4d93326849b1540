"""How a gateway with accounts serves a call: key, rate limit, idempotency, faults on demand, one effect.

A gateway declares its operations and its dialect: how it says that a key is wrong, that calls are too many, that a
request is under way. This module must not know what any operation does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.accounts import Account, Accounts
from simulators.clock import MovedClock
from simulators.faults import Fault, FaultKind, FaultSubject, draw
from simulators.gateway_records import GatewayRecords, KeptAnswer
from simulators.problems import read_body
from simulators.records import JsonObject
from simulators.simulator import DroppedConnection, parse_fault_header


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: status, JSON body, headers besides."""

    status: int
    body: JsonObject
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A request is refused and nothing of it happens. ``is_stored``: its key keeps the answer."""

    def __init__(self, reply: Reply, *, is_stored: bool = False) -> None:
        super().__init__(reply.status)
        self.reply = reply
        self.is_stored = is_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One parsed request of an account. ``fault`` is a refusal that the operation shall answer, where there is one."""

    records: GatewayRecords
    account: Account
    now: float
    seed: int
    params: JsonObject
    target_id: str
    fault: Fault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: its name for faults, method and path, and what it does inside a transaction on the records.

    ``subject`` returns the caller's reference and the token that faults can match.
    """

    name: str
    path: str
    apply: Callable[[Call], Reply]
    subject: Callable[[Call], tuple[str, str]]
    method: str = "POST"


class Dialect(Protocol):
    """How a gateway says what all gateways say. ``stores_failures``: a key keeps a 5xx like any answer."""

    key_length_max: int
    key_kept_s: float
    stores_failures: bool

    def api_key(self, request: Request) -> str:
        """Return the key of the API that a request bears."""

    def parse(self, request: Request, body: bytes) -> JsonObject:
        """Return the parameters of a request. Raises Refused."""

    def unauthorized(self) -> Reply:
        """Return the answer to an unknown key."""

    def rate_limited(self, retry_after_s: int) -> Reply:
        """Return the answer to a call that is one too many."""

    def key_too_long(self) -> Reply:
        """Return the answer to an idempotency key that is too long."""

    def key_reused(self, key: str) -> Reply:
        """Return the answer to a key that was used for another request."""

    def under_way(self, key: str) -> Reply:
        """Return the answer to a key whose first request is under way."""

    def failed(self, fault: Fault) -> Reply:
        """Return a 5xx."""


class Limits:
    """How many calls a second each account has left; a bucket of one second."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}

    def admit(self, account: Account, now: float) -> bool:
        """Count a call and return whether it is admitted."""
        allowed = account.requests_per_s
        if allowed is None:
            return True
        left, at = self._left.get(account.name, (allowed, now))
        left = min(allowed, left + (now - at) * allowed)
        self._left[account.name] = (left - 1 if left >= 1 else left, now)
        return left >= 1


class Face:
    """A gateway's API over its records, on one event loop."""

    def __init__(
        self, records: GatewayRecords, accounts: Accounts, clock: MovedClock, dialect: Dialect, *, seed: int
    ) -> None:
        self._records = records
        self._accounts = accounts
        self._clock = clock
        self._dialect = dialect
        self._seed = seed
        self._limits = Limits()
        self._under_way: set[tuple[str, str]] = set()

    def routes(self, operations: Sequence[Operation]) -> tuple[Route, ...]:
        """Return the routes of these operations."""
        return tuple(Route(each.path, self._endpoint(each), methods=[each.method]) for each in operations)

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await self.perform(operation, request)

        return endpoint

    def account_of(self, request: Request) -> Account | None:
        """Return the account whose key a request bears."""
        return self._accounts.of_key(self._dialect.api_key(request))

    async def perform(self, operation: Operation, request: Request) -> Response:
        """Answer one request.

        1. The account's key, then its rate: neither is kept under the idempotency key.
        2. The parameters.
        3. A key with an answer gets it again; a key under way, or used for another request, is refused.
        4. Otherwise the operation runs, with its fault if it meets one.
        """
        # 1.
        account = self.account_of(request)
        if account is None:
            return _respond(self._dialect.unauthorized())
        if not self._limits.admit(account, self._clock.real()):
            return _respond(self._dialect.rate_limited(1))
        # 2.
        body = await read_body(request)
        try:
            call = self._call(account, request, self._dialect.parse(request, body))
        except Refused as refused:
            return _respond(refused.reply)
        if request.method == "GET":
            return await self._run(operation, call, None, self._fault(operation, call, "", request))
        # 3.
        key = request.headers.get("idempotency-key", "")
        print_of = sha256(f"{request.method}\n{request.url.path}\n".encode() + body).digest()
        if (answer := self._known(account, key, print_of)) is not None:
            return _respond(answer)
        # 4.
        under_way = (account.name, key)
        self._under_way |= {under_way} if key else set()
        try:
            kept = (key, print_of) if key else None
            return await self._run(operation, call, kept, self._fault(operation, call, key, request))
        finally:
            self._under_way.discard(under_way)

    def _call(self, account: Account, request: Request, params: JsonObject) -> Call:
        return Call(
            records=self._records,
            account=account,
            now=self._clock.now(),
            seed=self._seed,
            params=params,
            target_id=request.path_params.get("id", ""),
        )

    def _known(self, account: Account, key: str, print_of: bytes) -> Reply | None:
        if len(key) > self._dialect.key_length_max:
            return self._dialect.key_too_long()
        if not key:
            return None
        kept = self._records.kept(account.name, key, self._clock.now() - self._dialect.key_kept_s)
        if kept is not None and kept.fingerprint != print_of:
            return self._dialect.key_reused(key)
        if kept is not None:
            return Reply(status=kept.status, body=kept.body, headers={"Idempotent-Replayed": "true"})
        return self._dialect.under_way(key) if (account.name, key) in self._under_way else None

    def _fault(self, operation: Operation, call: Call, key: str, request: Request) -> Fault | None:
        header = request.headers.get("x-fault")
        if header is not None:
            return parse_fault_header(operation.name, header)
        if not self._records.faults():
            return None
        reference, token = operation.subject(call)
        subject = FaultSubject(operation=operation.name, reference=reference, token=token, key=key)
        with self._records.transaction():
            return chosen(self._records, subject, self._seed)

    async def _run(
        self, operation: Operation, call: Call, kept: tuple[str, bytes] | None, fault: Fault | None
    ) -> Response:
        if fault is None or fault.kind in (FaultKind.DECLINE, FaultKind.REJECT):
            return _respond(self._apply(operation, _with(call, fault), kept))
        failure = self._dialect.failed(fault)
        match fault.kind:
            case FaultKind.RATE_LIMITED:
                return _respond(self._dialect.rate_limited(fault.retry_after_s))
            case FaultKind.ERROR:
                self._keep(call, kept if self._dialect.stores_failures else None, failure)
                return _respond(failure)
            case FaultKind.ERROR_AFTER:
                self._apply(operation, call, kept, said=failure if self._dialect.stores_failures else None)
                return _respond(failure)
            case FaultKind.HANG:
                await asyncio.sleep(fault.wait_s)
                return _respond(self._apply(operation, call, kept)) if fault.effect else DroppedConnection()
            case FaultKind.ANSWER_LOST:
                self._apply(operation, call, kept)
                await asyncio.sleep(fault.wait_s)
                return DroppedConnection()
            case _:
                reply = self._apply(operation, call, kept)
                await asyncio.sleep(fault.wait_s)
                return _respond(reply)

    def _apply(
        self, operation: Operation, call: Call, kept: tuple[str, bytes] | None, *, said: Reply | None = None
    ) -> Reply:
        """Apply the effect and keep its answer (or what is said instead), both or neither."""
        try:
            with self._records.transaction():
                reply = operation.apply(call)
                self._keep_inside(call, kept, said or reply)
        except Refused as refused:
            if refused.is_stored:
                self._keep(call, kept, said or refused.reply)
            return refused.reply
        return reply

    def _keep(self, call: Call, kept: tuple[str, bytes] | None, reply: Reply) -> None:
        with self._records.transaction():
            self._keep_inside(call, kept, reply)

    def _keep_inside(self, call: Call, kept: tuple[str, bytes] | None, reply: Reply) -> None:
        if kept is not None:
            key, fingerprint = kept
            answer = KeptAnswer(fingerprint=fingerprint, status=reply.status, body=reply.body, answered_at=call.now)
            self._records.keep(call.account.name, key, answer)


def chosen(records: GatewayRecords, subject: FaultSubject, seed: int) -> Fault | None:
    """Return the oldest fault that something meets, and count it. It runs inside a transaction."""
    for fault_id, rule in records.faults():
        fault = _parsed(rule)
        is_meant = fault.match in (None, subject.reference, subject.token, subject.key)
        if fault.operation != subject.operation or not is_meant:
            continue
        if fault.rate < 1.0 and draw(seed, fault, subject.reference) >= fault.rate:
            continue
        if fault.times is None:
            return fault
        if records.fault_hits(fault_id, subject.reference) < fault.times:
            records.hit_fault(fault_id, subject.reference)
            return fault
    return None


_PARSED: dict[str, Fault] = {}


def _parsed(rule: str) -> Fault:
    if rule not in _PARSED:
        _PARSED[rule] = Fault.model_validate_json(rule)
    return _PARSED[rule]


def _with(call: Call, fault: Fault | None) -> Call:
    return Call(
        records=call.records, account=call.account, now=call.now, seed=call.seed, params=call.params,
        target_id=call.target_id, fault=fault,
    )  # fmt: skip


def _respond(reply: Reply) -> Response:
    return JSONResponse(reply.body, reply.status, dict(reply.headers))
