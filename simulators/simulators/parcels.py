"""Parcels that the courier collects from a customer and brings back: accepted now, and there days later.

What becomes of a parcel is a function of its record and of the time, so a courier that is started again goes on. Each
end is shown by the day list, and a webhook carries it (:mod:`simulators.webhooks`). This module sends nothing.
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
from simulators.simulator import Answer, Call, Operation, Submission

Clock = Callable[[], float]
"""Returns the Unix time in seconds."""

COLLECTION, WEBHOOK = "collection", "webhook"
"""Kinds of records. Faults of the operation ``webhook`` are about webhooks: ``slow`` sends one late, ``hang`` sends it
at once and again after the delay, ``answer_lost`` never sends it."""
DAYS = 2
"""From the acceptance of a parcel to its end, in courier days."""
LISTED_MAX = 1_000
ADVANCED_MAX = 500
"""Parcels that one round looks at; the next continues."""

LOST, DAMAGED, SHORT = "LOST-PARCEL", "DAMAGED-PARCEL", "SHORT-PARCEL"
"""Magic postal codes: the parcel is lost, all of it is damaged, or one piece is missing."""


class Collection(Submission):
    """A request to collect these lines at an address."""

    model_config = ConfigDict(extra="forbid")

    collect_from: Address
    lines: Lines

    @property
    def fault_token(self) -> str:
        return self.collect_from.postal_code or ""


def operations(clock: Clock, day_s: float) -> tuple[Operation[Any], ...]:
    """Return what can be asked of the courier about parcels that come back. A courier day lasts ``day_s`` seconds."""

    def collect(records: Records, call: Call[Collection]) -> Answer:
        collection = Record(
            kind=COLLECTION,
            id=call.new_id("COL"),
            reference=call.reference,
            state="accepted",
            fields={
                "token": call.token,
                "contents": [[line.sku, line.quantity] for line in call.body.lines],
                "ends_at": clock() + DAYS * day_s,
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
            path="/v1/collections/{id}/cancel",
            body=Nothing,
            apply=call_off,
            refusal=(409, "already_collected", "The parcel is on its way."),
            target_kind=COLLECTION,
        ),
    )


def call_off(records: Records, call: Call[Nothing]) -> Answer:
    """Call a collection off that has not ended."""
    collection = call.target
    if collection is None:
        return Answer.refused(404, "collection_not_found", f"There is no collection {call.target_id!r}.")
    if collection.state not in ("accepted", "called_off"):
        return Answer.refused(409, "already_collected", f"Collection {collection.id} is {collection.state}.")
    called_off = collection.become("called_off")
    records.update(called_off)
    return Answer(status=201, body=shown(called_off))


def shown(collection: Record) -> JsonObject:
    """Return a collection as the courier shows it. ``pieces`` are those that arrived, each with its condition."""
    fields = collection.fields
    found: JsonObject = {"collection_id": collection.id, "status": collection.state, "reference": collection.reference}
    if "pieces" in fields:
        found |= {"pieces": fields["pieces"], "ended_at": fields["ended_at"]}
    return found


def advance(records: Records, *, now: float, seed: int) -> int:
    """End the collections whose time has come, with a webhook for each, and return how many."""
    due = [each for each in records.of_state(COLLECTION, "accepted", ADVANCED_MAX) if _ends_at(each) <= now]
    for each in due:
        with records.transaction():
            current = records.find(COLLECTION, each.id)
            if current is None or current.state != "accepted":
                continue  # It was called off meanwhile.
            ended = _ended(current, now)
            records.update(ended)
            for webhook in _webhooks(records, ended, now=now, seed=seed):
                records.add(webhook)
    return len(due)


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
    body = {"event": f"collection.{ended.state}", **shown(ended)}
    fields: JsonObject = {"body": body, "due_at": due_at, "sends": 0}
    return Record(kind=WEBHOOK, id=f"hook_{ended.id}_{number}", reference=ended.reference, state="due", fields=fields)


def routes(records: Records) -> tuple[Route, ...]:
    """Return the queries: one collection, and the list of those that ended between two times."""

    async def one(request: Request) -> Response:
        collection = records.find(COLLECTION, request.path_params["id"])
        if collection is None:
            raise Problem(404, "collection_not_found", f"There is no collection {request.path_params['id']!r}.")
        return JSONResponse(shown(collection))

    async def ended(request: Request) -> Response:
        since, until = (request.query_params.get(name, "") for name in ("since", "until"))
        found = [
            shown(each)
            for state in ("arrived", "lost")
            for each in records.of_state(COLLECTION, state, LISTED_MAX)
            if since <= each.text("ended_at") and (not until or each.text("ended_at") < until)
        ]
        return JSONResponse({"collections": found})

    return (
        Route("/v1/collections/{id}", one, methods=["GET"]),
        Route("/v1/collections", ended, methods=["GET"]),
    )


def _ends_at(collection: Record) -> float:
    value = collection.fields["ends_at"]
    assert isinstance(value, float | int), "it was written by collect"
    return float(value)


def _text_of(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat()
