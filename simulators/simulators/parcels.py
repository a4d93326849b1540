"""Parcels that the courier collects from a customer and brings back: accepted now, and there days later.

A collection is queried and called off by the idempotency key of its request, which its client always has. One that is
called off before its request arrives stays called off: the request is refused then. What becomes of a parcel is a
function of its record and of the time, so a courier that is started again goes on. Each end is shown by the day list,
and a webhook carries it (:mod:`simulators.webhooks`). This module sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.addresses import Address, Lines, Nothing
from simulators.faults import Fault, FaultKind, Faults, FaultSubject, draw
from simulators.problems import Problem
from simulators.records import JsonObject, Record, Records
from simulators.simulator import Answer, Call, Operation, Submission, id_of

Clock = Callable[[], float]
"""Returns the Unix time in seconds."""

COLLECTION, CALLED_OFF, WEBHOOK = "collection", "call_off", "webhook"
"""Kinds of records. A ``call_off`` is that of a request which had not arrived.

Faults of the operation ``webhook`` are about webhooks: ``slow`` sends one late, ``hang`` sends it at once and again
after the delay, ``answer_lost`` never sends it.
"""
COLLECTED_AFTER_DAYS, ENDS_AFTER_DAYS = 1, 2
"""From the acceptance of a parcel, in courier days. Until it is collected it can be called off."""
MISREPORTED = "misreported"
"""The state of a parcel that the courier shows as not collected, and that arrives after all."""
ENDS = ("arrived", "lost", "not_collected", MISREPORTED)
LISTED_MAX = 1_000
ADVANCED_MAX = 500
"""Parcels that one round looks at; the next continues."""

NOT_COLLECTABLE = "NOT-COLLECTABLE"
"""A magic postal code: the request is refused."""
LOST, DAMAGED, SHORT = "LOST-PARCEL", "DAMAGED-PARCEL", "SHORT-PARCEL"
"""Magic postal codes: the parcel is lost, all of it is damaged, or one piece is missing."""
NOT_COLLECTED, FAILED_THEN_ARRIVED = "NOT-COLLECTED", "FAILED-THEN-ARRIVED"
"""Magic postal codes: the parcel is not handed over; or the courier reports so, and it arrives a day later."""


class Collection(Submission):
    """A request to collect these lines at an address."""

    model_config = ConfigDict(extra="forbid")

    collect_from: Address
    lines: Lines

    @property
    def fault_token(self) -> str:
        return self.collect_from.postal_code or ""


def operations(clock: Clock, day_s: float) -> tuple[Operation[Any], ...]:
    """Return the courier's operations on parcels that come back. A courier day lasts ``day_s`` seconds."""

    def collect(records: Records, call: Call[Collection]) -> Answer:
        if records.find(CALLED_OFF, id_of("OFF", call.key)) is not None:
            return Answer.refused(409, "called_off", f"The collection of {call.reference} was called off.")
        now = clock()
        collection = Record(
            kind=COLLECTION,
            id=call.new_id("COL"),
            reference=call.reference,
            state="accepted",
            fields={
                "key": call.key,
                "token": call.token,
                "contents": [[line.sku, line.quantity] for line in call.body.lines],
                "collected_at": now + COLLECTED_AFTER_DAYS * day_s,
                "ends_at": now + ENDS_AFTER_DAYS * day_s,
            },
        )
        records.add(collection)
        return Answer(status=202, body=shown(collection))

    return (
        Operation(
            name="collect",
            path="/v1/collections",
            body=Collection,
            apply=collect,
            refusal=(422, "not_collectable", "The courier does not collect at this address."),
        ),
        Operation(
            name="call_off",
            path="/v1/collections/by-key/{id}/cancel",
            body=Nothing,
            apply=call_off,
            refusal=(409, "already_collected", "The parcel is on its way."),
        ),
    )


def call_off(records: Records, call: Call[Nothing]) -> Answer:
    """Call off the collection of an idempotency key, until it is collected. The path has the key."""
    key = call.target_id
    collection = records.find(COLLECTION, id_of("COL", key))
    if collection is None:
        if records.find(CALLED_OFF, id_of("OFF", key)) is None:
            records.add(Record(kind=CALLED_OFF, id=id_of("OFF", key), reference=key, state="called_off"))
        return Answer(status=201, body=unknown_called_off(key))
    if collection.state not in ("accepted", "called_off"):
        code = "already_collected" if collection.state == "collected" else "already_ended"
        return Answer.refused(409, code, f"Collection {collection.id} is {collection.state}.")
    called_off = collection.become("called_off")
    records.update(called_off)
    return Answer(status=201, body=shown(called_off))


def shown(collection: Record) -> JsonObject:
    """Return a collection as the courier shows it. ``pieces`` are those that arrived, each with its condition."""
    fields = collection.fields
    found: JsonObject = {
        "collection_id": collection.id,
        "status": _status_of(collection),
        "reference": collection.reference,
        "idempotency_key": fields["key"],
    }
    if "pieces" in fields:
        found |= {"pieces": fields["pieces"], "ended_at": fields["ended_at"]}
    return found


def _status_of(collection: Record) -> str:
    return "not_collected" if collection.state == MISREPORTED else collection.state


def unknown_called_off(key: str) -> JsonObject:
    """Return how the courier shows what was called off before its request arrived."""
    return {"collection_id": None, "status": "called_off", "idempotency_key": key}


def advance(records: Records, *, now: float, seed: int) -> int:
    """Move the parcels on whose time has come, with a webhook for each end, and return how many."""
    moved = 0
    for state in ("accepted", "collected", MISREPORTED):
        for each in records.of_state(COLLECTION, state, ADVANCED_MAX):
            if _next(each, now) is not None:
                moved += _advance(records, each.id, state, now=now, seed=seed)
    return moved


def _advance(records: Records, collection_id: str, state: str, *, now: float, seed: int) -> int:
    with records.transaction():
        current = records.find(COLLECTION, collection_id)
        if current is None or current.state != state:
            return 0  # It was called off meanwhile.
        after = _next(current, now)
        assert after is not None, "its time does not go back"
        records.update(after)
        if after.state in ENDS:
            for webhook in _webhooks(records, after, now=now, seed=seed):
                records.add(webhook)
    return 1


def _next(collection: Record, now: float) -> Record | None:
    """Return the collection in its next state, or None where its time has not come."""
    token = collection.text("token")
    match collection.state:
        case "accepted" if _time_of(collection, "collected_at") <= now:
            if token in (NOT_COLLECTED, FAILED_THEN_ARRIVED):
                state = MISREPORTED if token == FAILED_THEN_ARRIVED else "not_collected"
                return collection.become(state, pieces=[], ended_at=_text_of(now))
            return collection.become("collected")
        case "collected" | "misreported" if _time_of(collection, "ends_at") <= now:
            return _ended(collection, now)
    return None


def _ended(collection: Record, now: float) -> Record:
    token, contents = collection.text("token"), collection.fields["contents"]
    assert isinstance(contents, list), "it was written by collect"
    condition = "damaged" if token == DAMAGED else "good"
    pieces = [{"sku": sku, "quantity": quantity, "condition": condition} for sku, quantity in contents]
    if token == SHORT:
        pieces[-1]["quantity"] -= 1
    if token == LOST:
        return collection.become("lost", pieces=[], ended_at=_text_of(now))
    return collection.become("arrived", pieces=[each for each in pieces if each["quantity"]], ended_at=_text_of(now))


def _webhooks(records: Records, ended: Record, *, now: float, seed: int) -> Iterator[Record]:
    """Yield the webhooks of an end: one, or as many as a fault makes of it."""
    subject = FaultSubject(operation=WEBHOOK, reference=ended.reference, token=ended.text("token"), key=ended.id)
    fault = _chosen(records, subject, seed)
    if fault is not None and fault.kind is FaultKind.ANSWER_LOST:
        return
    late_s = fault.wait_s if fault is not None and fault.kind is FaultKind.SLOW else 0.0
    yield _webhook(ended, 1, now + late_s)
    if fault is not None and fault.kind is FaultKind.HANG:
        yield _webhook(ended, 2, now + fault.wait_s)


def _chosen(records: Records, subject: FaultSubject, seed: int) -> Fault | None:
    """Return the fault that an end meets. The rules are read anew: another thread may have changed them."""
    for fault_id, fault in Faults(records, seed=seed):
        is_meant = fault.match in (None, subject.reference, subject.token, subject.key)
        if fault.operation != WEBHOOK or not is_meant or draw(seed, fault, subject.reference) >= fault.rate:
            continue
        if fault.times is None or records.fault_hits(fault_id, subject.reference) < fault.times:
            records.hit_fault(fault_id, subject.reference)
            return fault
    return None


def _webhook(ended: Record, number: int, due_at: float) -> Record:
    status = _status_of(ended)
    return Record(
        kind=WEBHOOK,
        id=f"hook_{ended.id}_{status}_{number}",
        reference=ended.reference,
        state="due",
        fields={"body": {"event": f"collection.{status}", **shown(ended)}, "due_at": due_at, "sends": 0},
    )


def routes(records: Records) -> tuple[Route, ...]:
    """Return the queries: one collection by its id or by its request's key, and the list of those that ended."""

    async def one(request: Request) -> Response:
        return _found(records.find(COLLECTION, request.path_params["id"]), request.path_params["id"])

    async def of_key(request: Request) -> Response:
        key = request.path_params["key"]
        collection = records.find(COLLECTION, id_of("COL", key))
        if collection is None and records.find(CALLED_OFF, id_of("OFF", key)) is not None:
            return JSONResponse(unknown_called_off(key))
        return _found(collection, key)

    async def ended(request: Request) -> Response:
        """Return the collections that ended between two times."""
        since, until = (request.query_params.get(name, "") for name in ("since", "until"))
        found = [
            shown(each)
            for state in ENDS
            for each in records.of_state(COLLECTION, state, LISTED_MAX)
            if since <= each.text("ended_at") and (not until or each.text("ended_at") < until)
        ]
        return JSONResponse({"collections": found})

    return (
        Route("/v1/collections/by-key/{key}", of_key, methods=["GET"]),
        Route("/v1/collections/{id}", one, methods=["GET"]),
        Route("/v1/collections", ended, methods=["GET"]),
    )


def _found(collection: Record | None, by: str) -> Response:
    if collection is None:
        raise Problem(404, "collection_not_found", f"There is no collection {by!r}.")
    return JSONResponse(shown(collection))


def _time_of(collection: Record, name: str) -> float:
    value = collection.fields[name]
    assert isinstance(value, float | int), "it was written by collect"
    return float(value)


def _text_of(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat()
