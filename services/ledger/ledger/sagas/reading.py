"""What the events of a SACCO's sagas have in common: a payout, a receipt, a policy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypedDict

from ledger.model.loans import LoanPart
from ledger.model.waterfall import Target, TargetKind
from messages.members import AllocationTarget

NO_SOURCE: Final = {"loan_id": None, "run_id": None, "line_id": None, "wave_saga_id": None}
"""What an event of a payout has of a source that does not pay for it."""


class OfReceipt(Protocol):
    """An event about a receipt."""

    @property
    def message_id(self) -> str: ...
    @property
    def saga_id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def short_code(self) -> str: ...
    @property
    def receipt(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def completed_at(self) -> datetime: ...


class OfPayout(Protocol):
    """An event about a payout."""

    @property
    def message_id(self) -> str: ...
    @property
    def saga_id(self) -> str: ...
    @property
    def member_id(self) -> str: ...
    @property
    def short_code(self) -> str: ...
    @property
    def currency(self) -> str: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def fee_minor(self) -> int: ...
    @property
    def excise_minor(self) -> int: ...


class ReceiptFields(TypedDict):
    """What every request about a receipt has."""

    saga_id: str
    step: str
    message_id: str
    provider: str
    short_code: str
    receipt: str
    currency: str
    amount_minor: int
    completed_at: datetime


class PayoutFields(TypedDict):
    """What every request about a payout has."""

    saga_id: str
    step: str
    message_id: str
    member_id: str
    short_code: str
    currency: str
    amount_minor: int
    fee_minor: int
    excise_minor: int


def receipt_fields(event: OfReceipt, step: str) -> ReceiptFields:
    """Return what a request has of an event about a receipt."""
    return {
        "saga_id": event.saga_id,
        "step": step,
        "message_id": event.message_id,
        "provider": event.provider,
        "short_code": event.short_code,
        "receipt": event.receipt,
        "currency": event.currency,
        "amount_minor": event.amount_minor,
        "completed_at": event.completed_at,
    }


def payout_fields(event: OfPayout, step: str) -> PayoutFields:
    """Return what a request has of an event about a payout."""
    return {
        "saga_id": event.saga_id,
        "step": step,
        "message_id": event.message_id,
        "member_id": event.member_id,
        "short_code": event.short_code,
        "currency": event.currency,
        "amount_minor": event.amount_minor,
        "fee_minor": event.fee_minor,
        "excise_minor": event.excise_minor,
    }


def order_of(split: Sequence[str]) -> tuple[LoanPart, ...]:
    """Return a policy's order of a loan's parts. Raises ValueError for a part that is none."""
    return tuple(LoanPart(each) for each in split)


def targets_of(targets: Sequence[AllocationTarget]) -> tuple[Target, ...]:
    """Return a policy's targets. Raises ValueError for a kind that is none."""
    return tuple(Target(kind=TargetKind(each.kind), owner=each.owner, limit_minor=each.limit_minor) for each in targets)


def allocated_fields(event: Any) -> dict[str, Any]:
    """Return what a published event says of an allocation, as the step's outcome has it."""
    return {
        "allocations": [
            {"kind": each.kind, "owner": each.owner, "allocated_minor": each.allocated_minor}
            for each in event.allocations
        ],
        "loan_balance_minor": event.loan_balance_minor,
        "loans": [each.to_record() for each in event.loans],
    }
