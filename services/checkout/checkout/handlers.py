"""Checkout's handlers: the approval of a return, and its reactions to what becomes of an order or a return.

A redelivery changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Compensation, Handler, Reaction, Step
from checkout import tables
from checkout.domain import OrderState
from checkout.return_tables import (
    load_orders,
    load_withdrawals,
    on_parcel_arrived,
    on_return_completed,
    on_return_failed,
    save_decided,
    save_withdrawals,
)
from checkout.returns import APPROVE_RETURN, approve, restore_approval, withdraw
from checkout.sagas import return_order
from messages.checkout import ReturnWithdrawn, WithdrawReturn
from messages.saga import OrderConfirmed, OrderFailed, ReturnCompleted, ReturnFailed
from messages.shipping import ParcelArrived


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


SAGAS = frozenset({("order", 1), (return_order.SAGA_TYPE, return_order.SAGA_VERSION)})
"""The sagas that checkout starts."""

HANDLERS: tuple[Handler, ...] = (
    Reaction(on=OrderConfirmed, sagas=SAGAS, apply=on_order_confirmed),
    Reaction(on=OrderFailed, sagas=SAGAS, apply=on_order_failed),
    Step(
        name=APPROVE_RETURN,
        triggers=(return_order.APPROVAL,),
        load=load_orders,
        decide=approve,
        save=save_decided,
        restore=restore_approval,
        compensation=Compensation(
            on=WithdrawReturn,
            undoes=(APPROVE_RETURN,),
            load=load_withdrawals,
            decide=withdraw,
            save=save_withdrawals,
            replies=(ReturnWithdrawn,),
        ),
    ),
    Reaction(on=ParcelArrived, sagas=SAGAS, apply=on_parcel_arrived),
    Reaction(on=ReturnCompleted, sagas=SAGAS, apply=on_return_completed),
    Reaction(on=ReturnFailed, sagas=SAGAS, apply=on_return_failed),
)
