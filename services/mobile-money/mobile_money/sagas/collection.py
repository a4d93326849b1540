"""The collection saga: what it asks of a provider, and the event of what is proven."""

from __future__ import annotations

from typing import Final

from chassis.saga.answers import Settlement
from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.members import CollectionRequested
from messages.mobile_money import PromptFailed, PromptPaid
from mobile_money.port import Paid, Refused
from mobile_money.step_requests import SendPrompt
from mobile_money.wording import sentence


def _read(event: CollectionRequested, step: str) -> SendPrompt:
    return SendPrompt(
        saga_id=event.saga_id,
        step=step,
        member_id=event.member_id,
        provider=event.provider,
        short_code=event.short_code,
        reference=event.reference,
        phone=event.phone,
        currency=event.currency,
        amount_minor=event.amount_minor,
    )


def _publish(event: CollectionRequested, settlement: Settlement, envelope: Envelope) -> PromptPaid | PromptFailed:
    paid = Paid.of(settlement.proof.detail)
    if settlement.is_done and paid is not None:
        return PromptPaid(
            **envelope,
            member_id=event.member_id,
            reference=event.reference,
            currency=event.currency,
            amount_minor=paid.amount_minor,
            receipt=paid.receipt,
            completed_at=paid.completed_at or envelope["occurred_at"],
        )
    refused = Refused.of(settlement.proof.detail, settlement.proof.outcome)
    return PromptFailed(
        **envelope,
        member_id=event.member_id,
        reference=event.reference,
        reason=refused.reason,
        detail=sentence(refused.reason),
    )


PROMPT: Final = SagaTrigger(
    saga="collection",
    versions=(1,),
    on=CollectionRequested,
    read=_read,
    publish=_publish,
    succeeds_with=PromptPaid,
    rejected_with=PromptFailed,
)
