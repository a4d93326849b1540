"""What reconciliation publishes without a message that caused it: divergences, and settlements, which start sagas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from chassis.http.gateway_accounts import GatewayAccount
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id, headers, new_traceparent
from messages.contract import Message, name_of
from messages.reconciliation import DivergenceFound, SettlementRelease, SettlementReported
from reconciliation.model.findings import Divergence
from reconciliation.store import settlements
from reconciliation.store.settlements import Settlement

DIVERGENCES: Final = "reconciliation.divergences"
EVENTS: Final = "reconciliation.events"
SOURCE: Final = "reconciliation"
SAGA_TYPE: Final = "settlement"
SAGA_VERSION: Final = 1
PARTITION: Final = 0
"""The worker that owns it publishes the row, as one that was left over, within a quarter of a minute."""


def publish_divergences(
    run: int, divergences: Sequence[Divergence], tx: Connection, codec: Codec, *, now: datetime
) -> None:
    """Publish the open divergences of a run, each once."""
    events = [
        DivergenceFound(
            message_id=derived_id("divergence found", each.divergence_id, run),
            saga_id=each.divergence_id,
            saga_type="reconciliation",
            saga_version=1,
            causation_id=None,
            occurred_at=now,
            divergence_id=each.divergence_id,
            run=run,
            kind=each.kind,
            gateway_account=each.account,
            payment_id=each.payment_id,
            detail=each.detail,
        )
        for each in divergences
    ]
    if events:
        outbox.save(tx, [_row(event, DIVERGENCES, codec) for event in events])


def publish_settlements(account: GatewayAccount, tx: Connection, codec: Codec, *, now: datetime) -> int:
    """Publish the settlements that can be reported, each once, and return their number.

    A payout has one currency. What becomes available in another one is reported beside it, without a payment.
    """
    events = []
    for settlement in settlements.unreported(account.name, tx, now=now):
        for currency in _currencies(settlement):
            event = _reported(account, settlement, currency, now)
            if settlements.add(account.name, settlement, currency, event.saga_id, tx, now=now):
                events.append(event)
    if events:
        outbox.save(tx, [_row(event, EVENTS, codec) for event in events])
    return len(events)


def _currencies(settlement: Settlement) -> list[str]:
    others = {release.currency for release in settlement.releases} - {settlement.currency}
    return [settlement.currency, *sorted(others)]


def _reported(account: GatewayAccount, settlement: Settlement, currency: str, now: datetime) -> SettlementReported:
    is_paid = currency == settlement.currency
    batch = settlement.batch if is_paid else f"{settlement.batch}:{currency}"
    saga_id = derived_id("settlement", account.name, settlement.batch, settlement.currency, currency)
    return SettlementReported(
        message_id=derived_id("settlement reported", saga_id),
        saga_id=saga_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=now,
        gateway=account.gateway,
        gateway_account=account.name,
        is_live=account.is_live,
        batch=batch,
        currency=currency,
        paid_minor=settlement.paid_minor if is_paid else 0,
        cost_minor=settlement.cost_minor if is_paid else 0,
        releases=tuple(
            SettlementRelease(merchant_id=each.merchant_id, is_live=each.is_live, net_minor=each.net_minor)
            for each in settlement.releases
            if each.currency == currency
        ),
        settled_at=settlement.settled_at,
    )


def _row(event: Message, topic: str, codec: Codec) -> OutboxRow:
    return OutboxRow(
        id=event.message_id,
        topic=topic,
        saga_id=event.saga_id,
        type=name_of(type(event)),
        payload=codec.encode(topic, event),
        headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
        partition=PARTITION,
    )
