"""Accepts requests for returns and for their cancellation: rows, keys and outbox rows commit together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from chassis.http.problem import Problem
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.values.json_text import compact
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from checkout import return_tables, tables
from checkout.fields import Refusal
from checkout.fingerprints import is_of, return_fingerprint
from checkout.intake import ACCEPTED, in_progress, key_lock, other_body, outbox_row, refused, wire_address
from checkout.return_tables import NewReturn
from checkout.returns import (
    CANCELLABLE,
    CheckedReturn,
    CountedReturn,
    PlacedOrder,
    ReturnBody,
    ReturnState,
    check_return,
    priced,
    refusals_of,
    return_message_of,
)
from checkout.sagas.return_order import SAGA_TYPE, SAGA_VERSION
from checkout.tables import Key, StoredResponse
from messages.checkout import OrderLine, ReturnCancellationRequested, ReturnRequested

CANCELLED_BY_CUSTOMER = "customer_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnRequest:
    """A return that a client requests under an idempotency key."""

    key: Key
    order_id: str
    body: ReturnBody
    traceparent: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAcceptance:
    """The response for an accepted return, and the rows to publish after the commit: none where it is a replay."""

    return_id: str
    status: int
    body: str
    rows: Sequence[OutboxRow]

    @property
    def is_replay(self) -> bool:
        """Return whether an earlier request had it accepted."""
        return not self.rows


def request_return(
    tx: Connection,
    request: ReturnRequest,
    order: PlacedOrder,
    counted: Sequence[CountedReturn],
    *,
    codec: Codec,
    now: datetime,
) -> ReturnAcceptance:
    """Store the return as REQUESTED with its event. The saga approves it, or refuses it after all. Raises Problem.

    The key is locked and loaded as for an order: the response of a repeated request is the stored one.
    """
    fingerprint = return_fingerprint(request.order_id, request.body)
    locked, stored, _ = tables.lock_keys_and_load(tx, [key_lock(request.key)], [request.key], ())
    if (known := stored.get(request.key)) is not None:
        if not is_of(known.fingerprint, fingerprint):
            raise other_body()
        return ReturnAcceptance(return_id=known.order_id, status=known.status, body=known.body, rows=())
    if not locked:
        raise in_progress()
    checked = check_return(request.body, [line.sku for line in order.lines])
    _refuse(checked, order, counted, now)
    new = NewReturn(
        return_id=new_id(),
        order=order,
        lines=priced(order, checked.lines),
        reason=checked.reason,
        requested_at=now,
    )
    response = StoredResponse(order_id=new.return_id, fingerprint=fingerprint, status=ACCEPTED, body=_body(new))
    return_tables.insert_requested(tx, new, request.key, response)
    rows = [outbox_row(_event(new, checked), codec, request.traceparent)]
    outbox.save(tx, rows)
    return ReturnAcceptance(return_id=new.return_id, status=response.status, body=response.body, rows=rows)


def cancel_return(
    tx: Connection, return_id: str, *, codec: Codec, now: datetime, traceparent: bytes
) -> list[OutboxRow]:
    """Record the request and write its event to the outbox. Return the rows to publish: none for a repeated request.

    Raises Problem (409) when the return is decided, or its parcel has arrived.
    """
    if not return_tables.request_cancellation(tx, return_id, now=now):
        row = return_tables.load_return(tx, return_id)
        if row is None or ReturnState(row.state) not in CANCELLABLE:
            raise too_late()
        return []
    event = ReturnCancellationRequested(
        message_id=new_id(),
        saga_id=return_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=now,
        reason=CANCELLED_BY_CUSTOMER,
    )
    rows = [outbox_row(event, codec, traceparent)]
    outbox.save(tx, rows)
    return rows


def too_late() -> Problem:
    """Return the problem of a cancellation request that comes too late."""
    return Problem(
        status=409,
        title="The return is decided",
        detail="Only a return whose parcel has not arrived can be cancelled; read the return to see how it ended.",
        type="urn:baraza:problem:return-decided",
    )


def _refuse(checked: CheckedReturn, order: PlacedOrder, counted: Sequence[CountedReturn], now: datetime) -> None:
    """Raise the problem of an order that cannot be returned, or the one that names each field that is refused."""
    found = list(refusals_of(order, counted, checked.lines, at=now))
    of_order = [each for each in found if not each.path]
    if of_order:
        raise Problem(
            status=422,
            title="The order cannot be returned",
            detail=of_order[0].detail,
            type="urn:baraza:problem:order-not-returnable",
            extra={"reason": of_order[0].reason.value},
        )
    refusals = (*checked.refusals, *(Refusal(path=each.path, detail=each.detail) for each in found))
    if refusals:
        raise refused(refusals, type="urn:baraza:problem:return-refused")


def _body(new: NewReturn) -> str:
    return compact(
        {
            "return_id": new.return_id,
            "order_id": new.order.order_id,
            "state": ReturnState.REQUESTED.value,
            "message": return_message_of(ReturnState.REQUESTED, is_cancellation_requested=False),
        }
    )


def _event(new: NewReturn, checked: CheckedReturn) -> ReturnRequested:
    return ReturnRequested(
        message_id=new_id(),
        saga_id=new.return_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=new.requested_at,
        order_id=new.order.order_id,
        customer_id=new.order.customer_id,
        currency=new.order.currency,
        lines=tuple(
            OrderLine(sku=line.sku, quantity=line.quantity, unit_price_minor=line.unit_price_minor)
            for line in new.lines
        ),
        collect_from=wire_address(checked.collect_from),
        reason=new.reason,
    )
