"""A loan's terms, and what is owed of it at a value date. Pure.

What is owed is computed anew from the loan's payouts and payments in the order of their value dates. So a payment that
is known late changes the parts of those after it, exactly as if it had been known in time; what was booked of them is
then corrected by new entries.

- Interest runs by day on the principal that is left, from the day of each payout. It is kept in fractions of a minor
  unit, so that it does not depend on how often it was computed. In duplum: it runs no further while what is unpaid of
  it is not below the principal.
- The principal is due in equal monthly instalments from the day on which all of it was paid out; the last one has the
  rest. A payment may repay more of it than is due.
- The loan's fee is due with the first instalment, or with the last of the principal if that is sooner.
- On each later monthly day a penalty is due on the principal that has been overdue for a month.
"""

from __future__ import annotations

import calendar
import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

from ledger.model.charts import SACCO
from ledger.model.days import day_of

PPM: Final = 1_000_000
INTEREST_UNITS: Final = 365 * PPM
"""Interest is counted in this fraction of a minor unit: one day's interest of one ppm on one minor unit."""


class LoanPart(enum.StrEnum):
    """What a payment of a loan pays."""

    PENALTIES = "PENALTIES"
    FEES = "FEES"
    INTEREST = "INTEREST"
    PRINCIPAL = "PRINCIPAL"


class LoanState(enum.StrEnum):
    """Where a loan is."""

    DISBURSING = "DISBURSING"
    ACTIVE = "ACTIVE"
    PAID = "PAID"


class InvalidOrder(ValueError):
    """A policy does not name each part of a loan once; the message has its order. Members publish no such policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was agreed."""

    loan_id: str
    member_id: str
    currency: str
    principal_minor: int
    interest_ppm: int
    term_months: int
    fee_minor: int
    penalty_ppm: int

    def scheduled_minor(self, instalments: int) -> int:
        """Return how much of the principal is due with this many instalments."""
        if instalments >= self.term_months:
            return self.principal_minor
        return max(0, instalments) * (self.principal_minor // self.term_months)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disbursement:
    """A part of a loan that was paid out."""

    loan_id: str
    saga_id: str
    part: int
    amount_minor: int
    value_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How an amount is divided among the parts of a loan."""

    penalties_minor: int = 0
    fees_minor: int = 0
    interest_minor: int = 0
    principal_minor: int = 0

    @property
    def total_minor(self) -> int:
        """The sum."""
        return self.penalties_minor + self.fees_minor + self.interest_minor + self.principal_minor

    @property
    def by_part(self) -> Mapping[LoanPart, int]:
        """The amounts by part."""
        return {
            LoanPart.PENALTIES: self.penalties_minor,
            LoanPart.FEES: self.fees_minor,
            LoanPart.INTEREST: self.interest_minor,
            LoanPart.PRINCIPAL: self.principal_minor,
        }


NO_SPLIT: Final = Split()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanPayment:
    """A payment of a loan, with its parts as they are booked now. ``number`` counts from 1 in its loan."""

    loan_id: str
    number: int
    saga_id: str
    value_at: datetime
    split: Split
    order: tuple[LoanPart, ...]
    policy: str
    policy_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What is owed of a loan at a value date; ``split`` are the parts of each payment up to it, by number."""

    penalties_minor: int
    fees_minor: int
    interest_minor: int
    principal_minor: int
    split: Mapping[int, Split]

    @property
    def total_minor(self) -> int:
        """The sum."""
        return self.penalties_minor + self.fees_minor + self.interest_minor + self.principal_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a payment's parts are instead of those that are booked. ``excess_minor`` the loan no longer takes."""

    payment: LoanPayment
    split: Split

    @property
    def excess_minor(self) -> int:
        """What goes to the member's savings instead."""
        return self.payment.split.total_minor - self.split.total_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """A loan as it stands. ``version`` counts its changes."""

    terms: Terms
    state: LoanState = LoanState.DISBURSING
    version: int = 0
    disbursements: tuple[Disbursement, ...] = ()
    payments: tuple[LoanPayment, ...] = ()

    @property
    def disbursed_minor(self) -> int:
        """What was paid out."""
        return sum(each.amount_minor for each in self.disbursements)

    @property
    def principal_left_minor(self) -> int:
        """What was paid out and is not repaid, as it is booked."""
        return self.disbursed_minor - sum(each.split.principal_minor for each in self.payments)

    def owed_at(self, at: datetime) -> Owed:
        """Return what is owed at a value date, of what is known now."""
        return _Replay(self).run(at)

    def divided(self, amount_minor: int, at: datetime, order: Sequence[LoanPart]) -> Split:
        """Return what the loan takes of an amount at a value date. Raises InvalidOrder."""
        replay = _Replay(self)
        replay.run(at)
        return replay.take(amount_minor, checked(order))

    def disbursed(self, disbursement: Disbursement) -> Loan:
        """Return the loan with a further part paid out. It is active with the last one."""
        loan = replace(self, disbursements=(*self.disbursements, disbursement))
        is_all = loan.disbursed_minor >= self.terms.principal_minor
        return replace(loan, state=LoanState.ACTIVE) if is_all and self.state is LoanState.DISBURSING else loan

    def paid(self, payment: LoanPayment) -> tuple[Loan, tuple[Change, ...]]:
        """Return the loan with a further payment, and what changes of the parts of any that are booked."""
        payments = (*self.payments, payment)
        loan = replace(self, payments=payments)
        last_at = max([each.value_at for each in payments] + [each.value_at for each in self.disbursements])
        owed = loan.owed_at(last_at)
        changes = tuple(
            Change(payment=each, split=owed.split[each.number])
            for each in payments
            if owed.split[each.number] != each.split
        )
        changed = {each.payment.number: each.split for each in changes}
        booked = tuple(replace(each, split=changed.get(each.number, each.split)) for each in payments)
        is_paid = self.state is not LoanState.DISBURSING and owed.total_minor == 0
        state = LoanState.PAID if is_paid else self.state
        return replace(loan, payments=booked, state=state), changes


def checked(order: Sequence[LoanPart]) -> tuple[LoanPart, ...]:
    """Return an order that names each part once. Raises InvalidOrder."""
    if sorted(order) != sorted(LoanPart):
        raise InvalidOrder(f"The order {', '.join(order)} does not name each of {', '.join(LoanPart)} once.")
    return tuple(order)


def months_after(start: date, months: int) -> date:
    """Return the same day that many months later, or the last day of a month that is too short."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return date(year, month + 1, min(start.day, calendar.monthrange(year, month + 1)[1]))


class _Replay:
    """Reckons a loan forward, event by event, up to a value date."""

    def __init__(self, loan: Loan) -> None:
        self._loan = loan
        self._terms = loan.terms
        self._day: date | None = None
        self._principal = self._repaid = self._interest_units = self._penalties = 0
        self._fees = loan.terms.fee_minor
        self._is_fee_due = False

    def run(self, at: datetime) -> Owed:
        """Return what is owed at this time."""
        until = day_of(at, SACCO.zone)
        months = self._months(until)
        boundary = next(months, None)
        split: dict[int, Split] = {}
        for event in self._events(at):
            day = day_of(event.value_at, SACCO.zone)
            while boundary is not None and boundary[1] <= day:
                self._pass(*boundary)
                boundary = next(months, None)
            self._accrue(day)
            if isinstance(event, Disbursement):
                self._principal += event.amount_minor
            else:
                split[event.number] = self.take(event.split.total_minor, event.order)
        while boundary is not None:
            self._pass(*boundary)
            boundary = next(months, None)
        self._accrue(until)
        return Owed(
            penalties_minor=self._penalties,
            fees_minor=self._fees if self._is_fee_due else 0,
            interest_minor=self._interest_units // INTEREST_UNITS,
            principal_minor=self._principal,
            split=split,
        )

    def take(self, amount_minor: int, order: Sequence[LoanPart]) -> Split:
        """Return what an amount pays now, and take it off."""
        paid = dict.fromkeys(LoanPart, 0)
        for part in (*order, LoanPart.FEES):
            taken = min(amount_minor, self._due(part))
            self._pay(part, taken)
            paid[part] += taken
            amount_minor -= taken
        return Split(
            penalties_minor=paid[LoanPart.PENALTIES],
            fees_minor=paid[LoanPart.FEES],
            interest_minor=paid[LoanPart.INTEREST],
            principal_minor=paid[LoanPart.PRINCIPAL],
        )

    def _due(self, part: LoanPart) -> int:
        match part:
            case LoanPart.PENALTIES:
                return self._penalties
            case LoanPart.FEES:
                return self._fees if self._is_fee_due else 0
            case LoanPart.INTEREST:
                return self._interest_units // INTEREST_UNITS
            case LoanPart.PRINCIPAL:
                return self._principal

    def _pay(self, part: LoanPart, amount_minor: int) -> None:
        match part:
            case LoanPart.PENALTIES:
                self._penalties -= amount_minor
            case LoanPart.FEES:
                self._fees -= amount_minor
            case LoanPart.INTEREST:
                self._interest_units -= amount_minor * INTEREST_UNITS
            case LoanPart.PRINCIPAL:
                self._principal -= amount_minor
                self._repaid += amount_minor
        if self._principal == 0 and self._repaid >= self._terms.principal_minor:
            self._is_fee_due = True

    def _events(self, at: datetime) -> list[Disbursement | LoanPayment]:
        """Return what happened up to a time, payouts before payments of the same time."""
        found: list[tuple[datetime, int, int, Disbursement | LoanPayment]] = [
            *((each.value_at, 0, each.part, each) for each in self._loan.disbursements),
            *((each.value_at, 1, each.number, each) for each in self._loan.payments),
        ]
        return [each[3] for each in sorted(found, key=lambda it: it[:3]) if each[0] <= at]

    def _months(self, until: date) -> Iterator[tuple[int, date]]:
        """Yield the number and the day of each instalment's day, and of the months after them, up to a day."""
        if self._loan.disbursed_minor < self._terms.principal_minor:
            return
        start = max(day_of(each.value_at, SACCO.zone) for each in self._loan.disbursements)
        number = 1
        while (day := months_after(start, number)) <= until:
            yield number, day
            number += 1

    def _pass(self, number: int, day: date) -> None:
        """Let an instalment's day come: the fee is due, and the penalty on what has been overdue for a month."""
        self._accrue(day)
        self._is_fee_due = True
        overdue = max(0, self._terms.scheduled_minor(number - 1) - self._repaid)
        self._penalties += overdue * self._terms.penalty_ppm // PPM

    def _accrue(self, day: date) -> None:
        """Let interest run up to a day."""
        if self._day is not None and day > self._day:
            ran = self._principal * self._terms.interest_ppm * (day - self._day).days
            most = max(self._interest_units, self._principal * INTEREST_UNITS)
            self._interest_units = min(self._interest_units + ran, most)
        if self._day is None or day > self._day:
            self._day = day
