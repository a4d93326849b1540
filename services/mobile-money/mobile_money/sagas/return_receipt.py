"""The saga that returns a receipt: what it asks of a provider, and the event of what is proven."""

from __future__ import annotations

from typing import Final

from chassis.saga.answers import Settlement
from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.ledger import ReturnHeld
from messages.mobile_money import ReceiptReversed, ReversalRefused
from mobile_money.port import Paid, Refused
from mobile_money.step_requests import SendReversal
from mobile_money.wording import sentence


def _read(event: ReturnHeld, step: str) -> SendReversal:
    return SendReversal(
        saga_id=event.saga_id,
        step=step,
        provider=event.provider,
        short_code=event.short_code,
        receipt=event.receipt,
        currency=event.currency,
        amount_minor=event.amount_minor,
    )


def _publish(event: ReturnHeld, settlement: Settlement, envelope: Envelope) -> ReceiptReversed | ReversalRefused:
    if settlement.is_done:
        paid = Paid.of(settlement.proof.detail)
        return ReceiptReversed(
            **envelope,
            provider=event.provider,
            short_code=event.short_code,
            receipt=event.receipt,
            currency=event.currency,
            amount_minor=event.amount_minor,
            completed_at=event.completed_at,
            source=event.source,
            member_id=event.member_id,
            receipt_saga_id=event.receipt_saga_id,
            reversal_receipt=paid.receipt if paid is not None else settlement.proof.reference or "",
            reversed_at=(paid.completed_at if paid is not None else None) or envelope["occurred_at"],
        )
    refused = Refused.of(settlement.proof.detail, settlement.proof.outcome)
    return ReversalRefused(
        **envelope, member_id=event.member_id, reason=refused.reason, detail=sentence(refused.reason)
    )


REVERSAL: Final = SagaTrigger(
    saga="return_receipt",
    versions=(1,),
    on=ReturnHeld,
    read=_read,
    publish=_publish,
    succeeds_with=ReceiptReversed,
    rejected_with=ReversalRefused,
)
