"""The sagas that pay phones: what each asks of the float and of a provider, and the events of what is proven."""

from __future__ import annotations

from typing import Any, Final

from chassis.saga.answers import Settlement
from chassis.saga.triggers import AnySagaTrigger, SagaTrigger
from messages.contract import Envelope
from messages.ledger import HoldPlaced
from messages.mobile_money import FloatRefused, FloatReserved, PayoutFailed, PayoutPaid
from mobile_money.domain import Lane
from mobile_money.port import Paid, Refused
from mobile_money.step_requests import ReserveFloat, SendPayout
from mobile_money.wording import sentence

WITHDRAWAL, LOAN_DISBURSEMENT, DIVIDEND_PAYOUT = "withdrawal", "loan_disbursement", "dividend_payout"
BULK: Final = frozenset({DIVIDEND_PAYOUT})
"""Those whose payouts take the lane that members leave them."""
KEPT: Final = (
    "member_id", "provider", "short_code", "phone", "currency", "amount_minor", "fee_minor", "excise_minor", "source",
    "loan_id", "run_id", "line_id", "wave_saga_id",
)  # fmt: skip
"""What the events of a payout hand on, as they got it."""


def _reserving(event: HoldPlaced, step: str) -> ReserveFloat:
    return ReserveFloat(saga_id=event.saga_id, step=step, short_code=event.short_code, amount_minor=event.amount_minor)


def _reserved(event: HoldPlaced, is_reserved: bool, envelope: Envelope) -> FloatReserved | FloatRefused:
    if is_reserved:
        return FloatReserved(**envelope, **_kept(event))
    return FloatRefused(**envelope, member_id=event.member_id, reason="no_float", detail=sentence("no_float"))


def _paying(event: HoldPlaced | FloatReserved, step: str) -> SendPayout:
    return SendPayout(
        saga_id=event.saga_id,
        step=step,
        saga_type=event.saga_type,
        member_id=event.member_id,
        provider=event.provider,
        short_code=event.short_code,
        phone=event.phone,
        currency=event.currency,
        amount_minor=event.amount_minor,
        source=event.source,
        lane=Lane.BULK if event.saga_type in BULK else Lane.MEMBERS,
    )


def _paid(event: HoldPlaced | FloatReserved, settlement: Settlement, envelope: Envelope) -> PayoutPaid | PayoutFailed:
    paid = Paid.of(settlement.proof.detail)
    if settlement.is_done and paid is not None:
        return PayoutPaid(
            **envelope,
            **_kept(event),
            receipt=paid.receipt,
            completed_at=paid.completed_at or envelope["occurred_at"],
            charge_minor=paid.charge_minor,
        )
    refused = Refused.of(settlement.proof.detail, settlement.proof.outcome)
    return PayoutFailed(**envelope, member_id=event.member_id, reason=refused.reason, detail=sentence(refused.reason))


def _kept(event: HoldPlaced | FloatReserved) -> dict[str, Any]:
    return {name: getattr(event, name) for name in KEPT}


RESERVATIONS: Final = tuple(
    SagaTrigger(
        saga=saga,
        versions=(1,),
        on=HoldPlaced,
        read=_reserving,
        publish=_reserved,
        succeeds_with=FloatReserved,
        rejected_with=FloatRefused,
    )
    for saga in (WITHDRAWAL, LOAN_DISBURSEMENT)
)
PAYOUTS: Final[tuple[AnySagaTrigger, ...]] = (
    *(
        SagaTrigger(
            saga=saga,
            versions=(1,),
            on=FloatReserved,
            read=_paying,
            publish=_paid,
            succeeds_with=PayoutPaid,
            rejected_with=PayoutFailed,
        )
        for saga in (WITHDRAWAL, LOAN_DISBURSEMENT)
    ),
    SagaTrigger(
        saga=DIVIDEND_PAYOUT,
        versions=(1,),
        on=HoldPlaced,
        read=_paying,
        publish=_paid,
        succeeds_with=PayoutPaid,
        rejected_with=PayoutFailed,
    ),
)
DIVIDEND_PAYOUTS: Final = frozenset({(DIVIDEND_PAYOUT, 1)})
