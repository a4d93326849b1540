"""The payment saga: a payment is validated before any money is touched."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.merchant import PaymentSubmitted
from messages.risk import PaymentBlocked, PaymentValidated
from risk.domain import Decision, ValidatePayment


def to_validate(event: PaymentSubmitted, step: str) -> ValidatePayment:
    """Read the payment."""
    return ValidatePayment(
        saga_id=event.saga_id,
        step=step,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        currency=event.currency,
        amount_minor=event.amount_minor,
        gateway_account=event.gateway_account,
        capture=event.capture,
        payment_method=event.payment_method,
        payer=event.payer,
        submitted_at=event.occurred_at,
    )


def validated(event: PaymentSubmitted, outcome: Decision, envelope: Envelope) -> PaymentValidated | PaymentBlocked:
    """Return the event of a decision."""
    if outcome.reason is not None:
        return PaymentBlocked(
            **envelope,
            payment_id=event.payment_id,
            merchant_id=event.merchant_id,
            is_live=event.is_live,
            reason=outcome.reason,
            detail=outcome.detail,
            score=outcome.score,
            signals=outcome.signals,
            rules_version=outcome.rules_version,
        )
    return PaymentValidated(
        **envelope,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        currency=event.currency,
        amount_minor=event.amount_minor,
        reference=event.reference,
        gateway_account=event.gateway_account,
        capture=event.capture,
        fee_minor=event.fee_minor,
        payment_method=event.payment_method,
        payer=event.payer,
        score=outcome.score,
        signals=outcome.signals,
        rules_version=outcome.rules_version,
    )


def published(event: PaymentValidated) -> Decision:
    """Read what was decided."""
    return Decision(
        reason=None,
        detail="It was published before the database was restored.",
        score=event.score,
        signals=event.signals,
        rules_version=event.rules_version,
        is_undecided=any(signal.startswith("undecided:") for signal in event.signals),
    )


VALIDATION = SagaTrigger(
    saga="payment",
    versions=(1,),
    on=PaymentSubmitted,
    read=to_validate,
    publish=validated,
    succeeds_with=PaymentValidated,
    rejected_with=PaymentBlocked,
    restore=published,
)
