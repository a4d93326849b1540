"""Checkout's reactions to the end of a saga: the order takes over its outcome. A redelivery changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Reaction
from checkout import tables
from checkout.domain import OrderState
from messages.saga import OrderConfirmed, OrderFailed


def on_order_confirmed(events: Sequence[OrderConfirmed], tx: Connection) -> None:
    """Confirm the orders of these sagas."""
    tables.decide(
        tx,
        [
            tables.Decision(
                order_id=event.saga_id,
                state=OrderState.CONFIRMED,
                cause=None,
                reason=None,
                decided_at=event.occurred_at,
            )
            for event in events
        ],
    )


def on_order_failed(events: Sequence[OrderFailed], tx: Connection) -> None:
    """Cancel the orders of these sagas, with cause and reason."""
    tables.decide(
        tx,
        [
            tables.Decision(
                order_id=event.saga_id,
                state=OrderState.CANCELLED_COMPENSATED,
                cause=event.cause,
                reason=event.reason,
                decided_at=event.occurred_at,
            )
            for event in events
        ],
    )


SAGAS = frozenset({("order", 1)})
"""The sagas that checkout starts."""

HANDLERS = (
    Reaction(on=OrderConfirmed, sagas=SAGAS, apply=on_order_confirmed),
    Reaction(on=OrderFailed, sagas=SAGAS, apply=on_order_failed),
)
