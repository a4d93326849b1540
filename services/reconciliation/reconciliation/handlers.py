"""Reconciliation's handlers: it listens to what moves money, and to the ends of the settlements that it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection

from chassis.postgres.transient import utc_now
from chassis.saga.steps import Handler, Reaction
from messages.contract import Message
from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted, VoidCommitted
from messages.payment import GatewayCaptured, GatewayRefunded, LateCaptured, ReversalReported
from messages.saga import SettlementCompleted, SettlementFailed
from reconciliation.model.records import Record
from reconciliation.sagas import movements
from reconciliation.store import records, settlements

SETTLEMENT: Final = frozenset({("settlement", 1)})
Event = TypeVar("Event", bound=Message)


def recording(on: type[Event], sagas: frozenset[tuple[str, int]], record: Callable[[Event], Record]) -> Reaction[Event]:
    """Return the reaction that records what an event moved."""

    def apply(events: Sequence[Event], tx: Connection) -> None:
        records.add([record(event) for event in events], tx, now=utc_now())

    return Reaction(on=on, sagas=sagas, apply=apply)


def on_settlement_completed(events: Sequence[SettlementCompleted], tx: Connection) -> None:
    """Record that these settlements are booked."""
    for event in events:
        settlements.end(event.saga_id, None, tx, at=event.occurred_at)


def on_settlement_failed(events: Sequence[SettlementFailed], tx: Connection) -> None:
    """Record why these settlements were not booked."""
    for event in events:
        settlements.end(event.saga_id, event.reason, tx, at=event.occurred_at)


HANDLERS: tuple[Handler, ...] = (
    recording(GatewayCaptured, movements.PAYMENT, movements.captured),
    recording(PaymentCommitted, movements.PAYMENT, movements.captured),
    recording(LateCaptured, movements.CAPTURE_LATER, movements.captured),
    recording(CaptureCommitted, movements.CAPTURE_LATER, movements.captured),
    recording(VoidCommitted, movements.VOID_PAYMENT, movements.voided),
    recording(GatewayRefunded, movements.REFUND, movements.refunded),
    recording(RefundCommitted, movements.REFUND, movements.refunded),
    recording(ReversalReported, movements.PAYMENT_REVERSAL, movements.reversed_),
    recording(ReversalPosted, movements.PAYMENT_REVERSAL, movements.reversed_),
    Reaction(on=SettlementCompleted, sagas=SETTLEMENT, apply=on_settlement_completed),
    Reaction(on=SettlementFailed, sagas=SETTLEMENT, apply=on_settlement_failed),
)
