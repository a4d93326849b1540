"""The messages of a SACCO's members, as the other services send them to the ledger."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.ledger import ReleaseHold, ReleaseReturn
from messages.members import (
    DividendChunkReleased,
    DividendPayoutReleased,
    DividendRunApproved,
    LoanApproved,
    LoanRepaymentRequested,
    MemberRegistered,
    ReceiptAssigned,
    ReceiptAttributed,
    ReceiptReturnApproved,
    WithdrawalRequested,
)
from messages.mobile_money import DayCloseRequested, PayoutPaid, ReceiptReceived, ReceiptReversed
from support.builders import a
from support.ledger_steps import handle, only
from support.ledgers import FUNDING, LedgerUnderTest, transfer

ORDER = ["PENALTIES", "FEES", "INTEREST", "PRINCIPAL"]
PROVIDER = "daraja"
CURRENCY = "KES"
YEAR_PPM = 365_000
"""A rate at which a day's interest on 1,000,000 is 1,000."""


def capitals(length: int) -> str:
    """Return random capitals and digits."""
    return secrets.token_hex(length).upper()[:length]


def nairobi(day: int, month: int = 1, *, hour: int = 9) -> datetime:
    """Return a time of a day of 2026 in Nairobi, as UTC."""
    return datetime(2026, month, day, hour, tzinfo=UTC) - timedelta(hours=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaccoUnderTest:
    """A member with open accounts, and a short code of its own."""

    ledger: LedgerUnderTest
    member_id: str = field(default_factory=lambda: capitals(10))
    short_code: str = field(default_factory=lambda: capitals(8))

    def register(self) -> SaccoUnderTest:
        handle(self.ledger, self.registered())
        return self

    def registered(self) -> MemberRegistered:
        saga = {"saga_type": "member_onboarding", "member_id": self.member_id}
        return a(MemberRegistered, **saga, currency=CURRENCY)

    def path(self, code: str, owner: str | None = None) -> str:
        owner = owner or (self.short_code if code in ("utility", "working", "charges_payable") else self.member_id)
        return f"sacco:{code}:{owner}:{CURRENCY}"

    def posted(self, code: str, owner: str | None = None) -> int:
        """Return debits less credits of an account; 0 for one that is not open."""
        totals = self.ledger.totals().get(self.path(code, owner))
        return 0 if totals is None else totals[0] - totals[1]

    def fund(self, amount_minor: int, code: str = "fosa") -> SaccoUnderTest:
        self.ledger.book(transfer(FUNDING, self.path(code), amount_minor))
        return self

    def receipt(self, amount_minor: int, **more: Any) -> ReceiptUnderTest:
        return ReceiptUnderTest(of=self, amount_minor=amount_minor, **more)

    def withdrawal(self, amount_minor: int, **more: Any) -> PayoutUnderTest:
        return PayoutUnderTest(of=self, amount_minor=amount_minor, saga="withdrawal", source="SAVINGS", **more)

    def loan(self, principal_minor: int, **more: Any) -> LoanUnderTest:
        return LoanUnderTest(of=self, principal_minor=principal_minor, **more)

    def day_closed(self, day: str) -> DayCloseRequested:
        own = {"saga_type": "end_of_day", "provider": PROVIDER, "short_code": self.short_code}
        return a(DayCloseRequested, **own, day=day, run=1, currency=CURRENCY)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptUnderTest:
    """One receipt; each of its messages keeps its saga."""

    of: SaccoUnderTest
    amount_minor: int
    receipt: str = field(default_factory=lambda: capitals(10))
    saga_id: str = field(default_factory=new_id)
    completed_at: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=1))

    @property
    def fields(self) -> dict[str, Any]:
        return {
            "provider": PROVIDER,
            "short_code": self.of.short_code,
            "receipt": self.receipt,
            "currency": CURRENCY,
            "amount_minor": self.amount_minor,
            "completed_at": self.completed_at,
        }

    @property
    def own(self) -> dict[str, Any]:
        return {**self.fields, "saga_id": self.saga_id, "saga_type": "receipt"}

    def received(self, **more: Any) -> ReceiptReceived:
        return a(ReceiptReceived, **{**self.own, **more})

    def attributed(self, targets: Sequence[dict[str, Any]] = (), **more: Any) -> ReceiptAttributed:
        found = list(targets) or [self.to_savings()]
        policy = {"policy": "default", "policy_version": 3, "loan_order": ORDER, "targets": found}
        return a(
            ReceiptAttributed,
            **{**self.own, "state": "ATTRIBUTED", "member_id": self.of.member_id, **policy, **more},
        )

    def to_savings(self) -> dict[str, Any]:
        return {"kind": "SAVINGS", "owner": self.of.member_id, "limit_minor": None}

    def suspended(self) -> ReceiptAttributed:
        return self.attributed(state="SUSPENSE", reason="unknown_reference", member_id=None, targets=[])

    def assigned(self, **more: Any) -> ReceiptAssigned:
        policy = {"policy": "default", "policy_version": 3, "loan_order": ORDER, "targets": [self.to_savings()]}
        own = {**self.fields, "saga_type": "suspense_allocation", "receipt_saga_id": self.saga_id}
        return a(ReceiptAssigned, **{**own, "member_id": self.of.member_id, **policy, **more})

    def record(self) -> ReceiptUnderTest:
        handle(self.of.ledger, self.received())
        return self

    def allocate(self, *targets: dict[str, Any]) -> Any:
        """Record it, and allocate it; return the answer."""
        self.record()
        return only(self.of.ledger, self.attributed(targets))

    def returned(self, source: str = "UNALLOCATED", member_id: str | None = None) -> ReturnUnderTest:
        return ReturnUnderTest(of=self, source=source, member_id=member_id)

    def state(self) -> str | None:
        rows = self.of.ledger.rows("SELECT state FROM receipt_books WHERE saga_id = :it", it=self.saga_id)
        return rows[0][0] if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnUnderTest:
    """The return of a receipt."""

    of: ReceiptUnderTest
    source: str
    member_id: str | None
    saga_id: str = field(default_factory=new_id)

    @property
    def own(self) -> dict[str, Any]:
        return {
            **self.of.fields,
            "saga_id": self.saga_id,
            "saga_type": "return_receipt",
            "source": self.source,
            "member_id": self.member_id,
            "receipt_saga_id": self.of.saga_id,
        }

    def approved(self) -> ReceiptReturnApproved:
        return a(ReceiptReturnApproved, **self.own)

    def reversed(self) -> ReceiptReversed:
        return a(ReceiptReversed, **self.own, reversal_receipt=capitals(10))

    def release(self) -> ReleaseReturn:
        return a(ReleaseReturn, saga_id=self.saga_id, saga_type="return_receipt", step="hold_return")


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutUnderTest:
    """One payout; each of its messages keeps its saga."""

    of: SaccoUnderTest
    amount_minor: int
    saga: str
    source: str
    fee_minor: int = 0
    excise_minor: int = 0
    charge_minor: int = 900
    loan: LoanUnderTest | None = None
    saga_id: str = field(default_factory=new_id)

    @property
    def own(self) -> dict[str, Any]:
        return {
            "saga_id": self.saga_id,
            "saga_type": self.saga,
            "member_id": self.of.member_id,
            "provider": PROVIDER,
            "short_code": self.of.short_code,
            "phone": "254712345678",
            "currency": CURRENCY,
            "amount_minor": self.amount_minor,
            "fee_minor": self.fee_minor,
            "excise_minor": self.excise_minor,
        }

    def requested(self, **more: Any) -> Message:
        if self.loan is not None:
            return a(LoanApproved, **{**self.own, **self.loan.terms, **more})
        if self.source == "DIVIDEND":
            line = {"run_id": "2025-DIV", "line_id": "2025-DIV:1:DIVIDEND", "wave_saga_id": new_id()}
            return a(DividendPayoutReleased, **{**self.own, **line, **more})
        return a(WithdrawalRequested, **{**self.own, **more})

    def paid(self, **more: Any) -> PayoutPaid:
        loan_id = None if self.loan is None else self.loan.loan_id
        outcome = {
            "source": self.source, "loan_id": loan_id, "receipt": capitals(10), "charge_minor": self.charge_minor,
        }  # fmt: skip
        return a(PayoutPaid, **{**self.own, **outcome, **more})

    def release(self) -> ReleaseHold:
        return a(ReleaseHold, saga_id=self.saga_id, saga_type=self.saga, step="place_hold")

    def hold(self) -> Any:
        return only(self.of.ledger, self.requested())

    def pay(self, **more: Any) -> PayoutUnderTest:
        """Hold it and commit it."""
        self.hold()
        handle(self.of.ledger, self.paid(**more))
        return self

    def state(self) -> str | None:
        rows = self.of.ledger.rows("SELECT state FROM payout_books WHERE saga_id = :it", it=self.saga_id)
        return rows[0][0] if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanUnderTest:
    """One loan of a member."""

    of: SaccoUnderTest
    principal_minor: int
    interest_ppm: int = YEAR_PPM
    term_months: int = 10
    loan_fee_minor: int = 0
    penalty_ppm: int = 0
    loan_id: str = field(default_factory=lambda: f"LN{secrets.randbelow(10**9)}")

    @property
    def terms(self) -> dict[str, Any]:
        return {
            "loan_id": self.loan_id,
            "principal_minor": self.principal_minor,
            "interest_ppm": self.interest_ppm,
            "term_months": self.term_months,
            "loan_fee_minor": self.loan_fee_minor,
            "penalty_ppm": self.penalty_ppm,
        }

    def part(self, amount_minor: int | None = None) -> PayoutUnderTest:
        amount = self.principal_minor if amount_minor is None else amount_minor
        return PayoutUnderTest(
            of=self.of, amount_minor=amount, saga="loan_disbursement", source="LOAN", loan=self, charge_minor=0
        )

    def disburse(self, at: datetime) -> LoanUnderTest:
        self.part().pay(completed_at=at)
        return self

    def target(self, limit_minor: int | None = None) -> dict[str, Any]:
        return {"kind": "LOAN", "owner": self.loan_id, "limit_minor": limit_minor}

    def pay(self, amount_minor: int, at: datetime) -> dict[str, int]:
        """Pay by a receipt whose rest is saved, and return what went where."""
        receipt = self.of.receipt(amount_minor, completed_at=at)
        answer = receipt.allocate(self.target(), receipt.to_savings())
        return {each.kind: each.allocated_minor for each in answer.allocations}

    def repayment(self, amount_minor: int, at: datetime | None = None, **more: Any) -> LoanRepaymentRequested:
        own = {"saga_type": "loan_repayment", "member_id": self.of.member_id, "loan_id": self.loan_id}
        policy = {"policy": "default", "policy_version": 3, "loan_order": ORDER}
        money = {"currency": CURRENCY, "amount_minor": amount_minor, "value_at": at or datetime.now(UTC)}
        return a(LoanRepaymentRequested, **{**own, **policy, **money, **more})

    def booked(self) -> int:
        """Return the loan's balance in the ledger."""
        return self.of.posted("loan", self.loan_id)

    def state(self) -> str | None:
        rows = self.of.ledger.rows("SELECT state FROM loan_books WHERE loan_id = :it", it=self.loan_id)
        return rows[0][0] if rows else None


def run_approved(run_id: str, gross_minor: int, **more: Any) -> DividendRunApproved:
    run = {"saga_type": "dividend_run", "run_id": run_id, "currency": CURRENCY, "gross_minor": gross_minor}
    return a(DividendRunApproved, **{**run, **more})


def chunk(run_id: str, *lines: dict[str, Any], kind: str = "DECLARED", **more: Any) -> DividendChunkReleased:
    own = {"saga_type": "dividend_chunk", "run_id": run_id, "kind": kind, "currency": CURRENCY, "lines": list(lines)}
    return a(DividendChunkReleased, **{**own, **more})


def line(of: SaccoUnderTest, gross_minor: int, tax_minor: int, destination: str = "SAVINGS") -> dict[str, Any]:
    return {
        "line_id": f"run:{of.member_id}:DIVIDEND",
        "member_id": of.member_id,
        "destination": destination,
        "gross_minor": gross_minor,
        "tax_minor": tax_minor,
        "net_minor": gross_minor - tax_minor,
    }
