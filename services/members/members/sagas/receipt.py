"""The receipt saga: whose a receipt is, once the ledger has recorded it."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from members.attribution import AttributeReceipt, Attribution, PublishedAttribution
from members.terms import Target
from messages.contract import Envelope
from messages.ledger import ReceiptRecorded
from messages.members import AllocationTarget, ReceiptAttributed


def to_attribute(event: ReceiptRecorded, step: str) -> AttributeReceipt:
    """Read a recorded receipt."""
    return AttributeReceipt(
        saga_id=event.saga_id,
        step=step,
        provider=event.provider,
        short_code=event.short_code,
        receipt=event.receipt,
        currency=event.currency,
        amount_minor=event.amount_minor,
        completed_at=event.completed_at,
        reference=event.reference,
        collection_id=event.collection_id,
        payer_hash=event.payer_hash,
        recorded_at=event.occurred_at,
    )


def attributed(event: ReceiptRecorded, outcome: Attribution, envelope: Envelope) -> ReceiptAttributed:
    """Return the event of an attribution."""
    return ReceiptAttributed(
        **envelope,
        provider=event.provider,
        short_code=event.short_code,
        receipt=event.receipt,
        currency=event.currency,
        amount_minor=event.amount_minor,
        completed_at=event.completed_at,
        state="SUSPENSE" if outcome.is_suspense else "ATTRIBUTED",
        reason=outcome.reason,
        member_id=outcome.member_id,
        policy=outcome.policy.name,
        policy_version=outcome.policy.version,
        loan_order=outcome.policy.loan_order,
        targets=to_wire(outcome.targets),
    )


def to_wire(targets: tuple[Target, ...]) -> tuple[AllocationTarget, ...]:
    """Return targets as events hold them."""
    return tuple(AllocationTarget(kind=each.kind, owner=each.owner, limit_minor=each.limit_minor) for each in targets)


def published(event: ReceiptAttributed) -> PublishedAttribution:
    """Read what was decided."""
    return PublishedAttribution(
        member_id=event.member_id,
        policy=event.policy,
        policy_version=event.policy_version,
        loan_order=event.loan_order,
        targets=tuple(Target(kind=each.kind, owner=each.owner, limit_minor=each.limit_minor) for each in event.targets),
        reason=event.reason,
    )


ATTRIBUTION = SagaTrigger(
    saga="receipt",
    versions=(1,),
    on=ReceiptRecorded,
    read=to_attribute,
    publish=attributed,
    succeeds_with=ReceiptAttributed,
    restore=published,
)
