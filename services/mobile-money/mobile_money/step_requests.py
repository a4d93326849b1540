"""What the steps of mobile-money are to do, as they read it in the sagas' events. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from chassis.saga.answers import Proven
from chassis.saga.attempts import Outcome
from chassis.saga.triggers import StepRequest
from mobile_money.domain import Lane
from mobile_money.port import Paid


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPrompt(StepRequest):
    """Prompt a member's phone to pay."""

    member_id: str
    provider: str
    short_code: str
    reference: str
    phone: str
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveFloat(StepRequest):
    """Reserve the float of one payout."""

    short_code: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPayout(StepRequest):
    """Pay this to a member's phone."""

    saga_type: str
    member_id: str
    provider: str
    short_code: str
    phone: str
    currency: str
    amount_minor: int
    source: str
    lane: Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveWave(StepRequest):
    """Reserve the float of a wave of payouts."""

    short_code: str
    amount_minor: int
    charge_minor: int
    payouts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReversal(StepRequest):
    """Return a receipt to its payer."""

    provider: str
    short_code: str
    receipt: str
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideDay(StepRequest):
    """Compare a business day's statements with what the ledger had."""

    provider: str
    short_code: str
    day: str
    run: int
    utility_minor: int
    working_minor: int
    charges_minor: int
    measured_at: datetime


def judge(request: SendPrompt | SendPayout, proof: Proven) -> Proven:
    """Return what a proof means for what was requested: the success of another amount is for a person."""
    if proof.outcome is not Outcome.SUCCEEDED:
        return proof
    paid = Paid.of(proof.detail)
    is_same = paid is not None and paid.amount_minor == request.amount_minor
    return proof if is_same else replace(proof, outcome=Outcome.MISMATCHED)
