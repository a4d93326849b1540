"""What the simulated providers share: idempotency keys, faults on demand, records and their export.

A provider declares its operations; this module must not know what any of them does. Everything runs on one event
loop, and an effect is applied and recorded without an await in between, so no call ever sees another one half done.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Generic

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from simulators.export import page
from simulators.faults import FAULTS_MAX, Fault, FaultKind, Faults, FaultSubject
from simulators.problems import (
    EXCEPTION_HANDLERS,
    BodyType,
    Problem,
    Text,
    parse,
    problem_body,
    problem_response,
    read_body,
)
from simulators.records import AnsweredRequest, Record, Records

KEY_LENGTH_MAX = 255
"""As Stripe has it."""

UNDER_WAY_RETRY_AFTER_S = 1
"""A call under way is either quick or meant to hang, so an early retry makes sense."""

DROP = "baraza.drop"
"""The key of the ASGI extension that breaks a connection without an answer (see server.py)."""

FIND = "find"
"""The operation, for faults, of a query for a recorded outcome; its reference is the key."""


class Submission(BaseModel):
    """The body of a request that creates a record, with the caller's own reference."""

    reference: Text

    @property
    def fault_token(self) -> str:
        """What faults can match besides the reference; the record keeps it for later operations."""
        return ""


def id_of(prefix: str, key: str) -> str:
    """Return the id of what a request with this idempotency key creates."""
    return f"{prefix}_{sha256(key.encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The response of an operation: an HTTP status and a JSON body."""

    status: int
    body: Mapping[str, object]

    @classmethod
    def refused(cls, status: int, code: str, detail: str) -> Answer:
        """Return a refusal in the provider's own terms; it is recorded under the key like a success."""
        return cls(status=status, body=problem_body(status, code, detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[BodyType]):
    """One parsed request. ``target`` is the record that the path names, None where the operation creates one."""

    key: str
    body: BodyType
    target_id: str
    target: Record | None
    reference: str
    token: str
    fingerprint: bytes

    def new_id(self, prefix: str) -> str:
        """Return an id that depends only on the key, so that a replay of the same calls creates the same ids."""
        return id_of(prefix, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[BodyType]):
    """One operation of the provider: POST ``path`` with a ``body``.

    ``apply`` runs inside a transaction on the records. ``target_kind`` is the kind of the record whose id is in the
    path as ``{id}``. ``refusal`` is the answer of a decline or reject fault: status, code, one sentence.
    """

    name: str
    path: str
    body: type[BodyType]
    apply: Callable[[Records, Call[BodyType]], Answer]
    refusal: tuple[int, str, str]
    target_kind: str | None = None


class DroppedConnection(Response):
    """No answer: the caller's connection breaks."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][DROP]()
        while (await receive())["type"] != "http.disconnect":
            pass


class Simulator:
    """A provider's HTTP API over its records. ``magic`` maps tokens to the fault that each always meets.

    ``queries`` are what can be read besides, ``also_faulty`` the names of what else faults may be about.
    """

    def __init__(
        self,
        name: str,
        operations: Sequence[Operation[BaseModel]],
        magic: Mapping[str, Fault],
        records: Records,
        seed: int,
        *,
        queries: Sequence[Route] = (),
        also_faulty: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._operations = {operation.name: operation for operation in operations}
        self._magic = magic
        self._records = records
        self._faults = Faults(records, seed=seed)
        self._under_way: set[str] = set()
        self._queries = tuple(queries)
        self._also_faulty = tuple(also_faulty)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route(operation.path, self._endpoint(operation), methods=["POST"])
            for operation in self._operations.values()
        ]
        routes += [
            *self._queries,
            Route("/v1/requests/{key:path}", self.find, methods=["GET"]),
            Route("/admin/faults", self.list_faults, methods=["GET"]),
            Route("/admin/faults", self.add_fault, methods=["POST"]),
            Route("/admin/faults", self.clear_faults, methods=["DELETE"]),
            Route("/admin/faults/{id:int}", self.remove_fault, methods=["DELETE"]),
            Route("/admin/records", self.export, methods=["GET"]),
            Route("/admin/summary", self.summary, methods=["GET"]),
            Route("/livez", self.livez, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)

    def _endpoint(self, operation: Operation[BaseModel]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await self.perform(operation, request)

        return endpoint

    async def perform(self, operation: Operation[BaseModel], request: Request) -> Response:
        """Answer one request, once per idempotency key, as Stripe does.

        1. The request is parsed, or refused without a record.
        2. A key with an answer gets it again, or 422 for another request.
        3. A key under way gets 409.
        4. Otherwise the operation runs, with its fault if it meets one.
        """
        # 1.
        call = await self._parsed(operation, request)
        # 2.
        recorded = self._records.answered(call.key)
        if recorded is not None:
            if recorded.fingerprint != call.fingerprint:
                detail = f"Idempotency key {call.key!r} was used for another request. Use a new key for a new request."
                raise Problem(422, "idempotency_mismatch", detail)
            return _respond(Answer(status=recorded.status, body=recorded.body), replayed=True)
        # 3.
        self._refuse_under_way(call.key)
        # 4.
        self._under_way.add(call.key)
        try:
            return await self._run(operation, call, self._fault(operation, call, request))
        finally:
            self._under_way.discard(call.key)

    async def _parsed(self, operation: Operation[BaseModel], request: Request) -> Call[BaseModel]:
        key = request.headers.get("idempotency-key", "")
        if not 0 < len(key) <= KEY_LENGTH_MAX:
            detail = f"{operation.name} needs an Idempotency-Key header of 1 to {KEY_LENGTH_MAX} characters."
            raise Problem(400, "idempotency_key_missing", detail)
        body = parse(operation.body, await read_body(request) or b"{}")
        target_id = request.path_params.get("id", "")
        target = self._records.find(operation.target_kind, target_id) if operation.target_kind else None
        if isinstance(body, Submission):
            reference, token = body.reference, body.fault_token
        else:
            reference, token = (target.reference, target.text("token")) if target else (target_id, "")
        same = f"{operation.name}\n{target_id}\n{body.model_dump_json()}"
        return Call(
            key=key,
            body=body,
            target_id=target_id,
            target=target,
            reference=reference,
            token=token,
            fingerprint=sha256(same.encode()).digest(),
        )

    def _refuse_under_way(self, key: str) -> None:
        if key in self._under_way:
            detail = f"A request with idempotency key {key!r} is under way. Try again later."
            raise Problem(409, "idempotency_in_progress", detail, retry_after_s=UNDER_WAY_RETRY_AFTER_S)

    def _fault(self, operation: Operation[BaseModel], call: Call[BaseModel], request: Request) -> Fault | None:
        header = request.headers.get("x-fault")
        if header is not None:
            return parse_fault_header(operation.name, header)
        magic = self._magic.get(call.token)
        if magic is not None and magic.operation == operation.name:
            return magic
        return self._faults.choose(
            FaultSubject(operation=operation.name, reference=call.reference, token=call.token, key=call.key)
        )

    async def _run(self, operation: Operation[BaseModel], call: Call[BaseModel], fault: Fault | None) -> Response:
        if fault is None:
            return _respond(self._apply(operation, call))
        match fault.kind:
            case FaultKind.DECLINE | FaultKind.REJECT:
                return _respond(self._refuse(operation, call, fault))
            case FaultKind.SLOW:
                answer = self._apply(operation, call)
                await asyncio.sleep(fault.wait_s)
                return _respond(answer)
            case FaultKind.HANG:
                await asyncio.sleep(fault.wait_s)
                return _respond(self._apply(operation, call)) if fault.effect else DroppedConnection()
            case FaultKind.ANSWER_LOST:
                self._apply(operation, call)
                await asyncio.sleep(fault.wait_s)
                return DroppedConnection()
            case FaultKind.ERROR_AFTER:
                self._apply(operation, call)
                raise _failure(fault)
            case FaultKind.ERROR | FaultKind.RATE_LIMITED:
                raise _failure(fault)

    def _apply(self, operation: Operation[BaseModel], call: Call[BaseModel]) -> Answer:
        """Apply the effect and record its answer, both or neither."""
        with self._records.transaction():
            if operation.target_kind is not None:
                # The call may have hung since it was parsed, and its target may have changed.
                target = self._records.find(operation.target_kind, call.target_id)
                call = replace(call, target=target)
            answer = operation.apply(self._records, call)
            self._record(operation, call, answer)
        return answer

    def _refuse(self, operation: Operation[BaseModel], call: Call[BaseModel], fault: Fault) -> Answer:
        status, code, detail = operation.refusal
        answer = Answer.refused(status, fault.code or code, detail)
        with self._records.transaction():
            self._record(operation, call, answer)
        return answer

    def _record(self, operation: Operation[BaseModel], call: Call[BaseModel], answer: Answer) -> None:
        self._records.answer(
            call.key,
            AnsweredRequest(
                operation=operation.name,
                reference=call.reference,
                fingerprint=call.fingerprint,
                status=answer.status,
                body=answer.body,
            ),
        )

    async def find(self, request: Request) -> Response:
        """Return the outcome of an idempotency key: the recorded one, 404 for an unknown key, 409 for one under way."""
        key = request.path_params["key"]
        fault = self._faults.choose(FaultSubject(operation=FIND, reference=key, token="", key=key))
        if fault is not None:
            await asyncio.sleep(fault.wait_s)
            if fault.kind in (FaultKind.ERROR, FaultKind.RATE_LIMITED):
                raise _failure(fault)
            if fault.kind is FaultKind.ANSWER_LOST:
                return DroppedConnection()
        recorded = self._records.answered(key)
        if recorded is None:
            self._refuse_under_way(key)
            raise Problem(404, "request_not_found", f"No request with idempotency key {key!r} has an outcome.")
        return JSONResponse(
            {
                "key": key,
                "operation": recorded.operation,
                "reference": recorded.reference,
                "status": recorded.status,
                "body": recorded.body,
            }
        )

    async def add_fault(self, request: Request) -> Response:
        fault = parse(Fault, await read_body(request))
        known = [*self._operations, FIND, *self._also_faulty]
        if fault.operation not in known:
            detail = f"{self.name} has no operation {fault.operation!r}; known: {', '.join(known)}."
            raise Problem(400, "unknown_operation", detail)
        if len(self._faults) >= FAULTS_MAX:
            detail = f"{FAULTS_MAX} faults are active, which is the maximum. DELETE /admin/faults first."
            raise Problem(409, "too_many_faults", detail)
        return JSONResponse({"id": self._faults.add(fault), **fault.model_dump(mode="json")}, 201)

    async def list_faults(self, _request: Request) -> Response:
        return JSONResponse(
            {"faults": [{"id": number, **fault.model_dump(mode="json")} for number, fault in self._faults]}
        )

    async def remove_fault(self, request: Request) -> Response:
        """Deactivate one fault; one that is not active may be removed again."""
        self._faults.remove(request.path_params["id"])
        return Response(status_code=204)

    async def clear_faults(self, _request: Request) -> Response:
        self._faults.clear()
        return Response(status_code=204)

    async def export(self, request: Request) -> Response:
        """Return one page of records."""
        return page(self._records, request)

    async def summary(self, _request: Request) -> Response:
        counts = await asyncio.to_thread(self._records.summary)
        return JSONResponse({**counts, "under_way": len(self._under_way)})

    async def livez(self, _request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        try:
            self._records.check()
        except sqlite3.Error as error:
            raise Problem(503, "records_unavailable", f"The records cannot be written: {error}.") from error
        return JSONResponse({"status": "ready"})


def parse_fault_header(operation: str, text: str) -> Fault:
    """Parse an ``X-Fault`` header, for example ``hang; delay_s=2``, or raise a Problem."""
    kind, *parameters = (part.strip() for part in text.split(";"))
    values = {"operation": operation, "kind": kind}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        values[name.strip()] = value.strip()
    try:
        return Fault.model_validate_strings(values)
    except ValueError as error:
        detail = f"X-Fault {text!r} is not a fault. Write it like 'hang; delay_s=2'; kinds: {', '.join(FaultKind)}."
        raise Problem(400, "invalid_fault", detail) from error


def _failure(fault: Fault) -> Problem:
    if fault.kind is FaultKind.RATE_LIMITED:
        detail = f"Too many requests. Try again in {fault.retry_after_s} s."
        return Problem(429, fault.code or "rate_limited", detail, retry_after_s=fault.retry_after_s)
    return Problem(fault.status, fault.code or "provider_error", "The provider failed.")


def _respond(answer: Answer, *, replayed: bool = False) -> Response:
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    if answer.status >= 400:
        return problem_response(answer.body, answer.status, headers)
    return JSONResponse(answer.body, answer.status, headers)
