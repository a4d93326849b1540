"""A customer's cancellation request, published for the tracker. The tracker decides what to compensate."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from chassis.http.problem import Problem
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from checkout import tables
from checkout.domain import OrderState
from checkout.intake import SAGA_TYPE, SAGA_VERSION, outbox_row
from messages.checkout import OrderCancellationRequested

REASON = "customer_request"


def cancel(tx: Connection, order_id: str, *, codec: Codec, now: datetime, traceparent: bytes) -> list[OutboxRow]:
    """Record the request and write its event to the outbox. Return the rows to publish: none for a repeated request.

    Raises Problem (409) when the order is already decided.
    """
    if not tables.request_cancellation(tx, order_id, now=now):
        order = tables.load_order(tx, order_id)
        if order is None or order.state != OrderState.PENDING:
            raise too_late()
        return []
    event = OrderCancellationRequested(
        message_id=new_id(),
        saga_id=order_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=now,
        reason=REASON,
    )
    rows = [outbox_row(event, codec, traceparent)]
    outbox.save(tx, rows)
    return rows


def too_late() -> Problem:
    """Return the problem of a cancellation request that comes after the decision."""
    return Problem(
        status=409,
        title="The order is decided",
        detail="Only a PENDING order can be cancelled; read the order to see how it ended.",
        type="urn:baraza:problem:order-decided",
    )
