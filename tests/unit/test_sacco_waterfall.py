"""The waterfall and a loan's reckoning: properties for random amounts, policies and histories."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from ledger.model.loans import (
    NO_SPLIT,
    Disbursement,
    InvalidOrder,
    Loan,
    LoanPart,
    LoanPayment,
    LoanState,
    Terms,
    months_after,
)
from ledger.model.waterfall import Allocated, NotAllocated, Target, TargetKind, allocate, parts_of

ORDER = tuple(LoanPart)
START = datetime(2026, 1, 1, 6, tzinfo=UTC)
SEEDS = range(40)


def a_loan(principal_minor: int = 1_000_000, **terms: int) -> Loan:
    agreed = {"interest_ppm": 365_000, "term_months": 10, "fee_minor": 0, "penalty_ppm": 0, **terms}
    loan = Loan(terms=Terms(loan_id="LN1", member_id="M1", currency="KES", principal_minor=principal_minor, **agreed))
    part = Disbursement(loan_id="LN1", saga_id="s", part=1, amount_minor=principal_minor, value_at=START)
    return loan.disbursed(part)


def pay(loan: Loan, amount_minor: int, at: datetime, order: tuple[LoanPart, ...] = ORDER) -> Loan:
    split = loan.divided(amount_minor, at, order)
    payment = LoanPayment(
        loan_id="LN1", number=len(loan.payments) + 1, saga_id="s", value_at=at, split=split, order=order,
        policy="default", policy_version=1,
    )  # fmt: skip
    return loan.paid(payment)[0]


def random_loan(chance: random.Random) -> Loan:
    return a_loan(
        chance.randint(1, 10**8),
        interest_ppm=chance.randint(0, 10**6),
        term_months=chance.randint(1, 48),
        fee_minor=chance.choice([0, chance.randint(1, 10_000)]),
        penalty_ppm=chance.choice([0, chance.randint(1, 100_000)]),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_parts_of_an_allocation_sum_to_the_amount_or_nothing_is_allocated(seed: int) -> None:
    chance = random.Random(seed)
    loans = {f"LN{number}": random_loan(chance) for number in range(3)}
    at = START + timedelta(days=chance.randint(0, 2_000))
    closed = {kind for kind in TargetKind if chance.random() < 0.2}
    targets = [
        Target(
            kind=kind, owner=chance.choice(list(loans)) if kind is TargetKind.LOAN else "M1",
            limit_minor=chance.choice([None, chance.randint(1, 10**6)]),
        )
        for kind in chance.choices(list(TargetKind), k=chance.randint(0, 5))
    ]  # fmt: skip
    amount_minor = chance.randint(1, 10**8)
    order = tuple(chance.sample(ORDER, 4))
    found = allocate(
        amount_minor, targets,
        takes=lambda loan_id, amount: loans[loan_id].divided(amount, at, order),
        is_open=lambda target: target.kind not in closed,
    )  # fmt: skip
    if isinstance(found, NotAllocated):
        assert found.reason in {"no_target", "loan_closed", "overpaid", "account_closed"}
        return
    assert sum(each.amount_minor for each in found.allocations) == amount_minor
    assert all(each.amount_minor > 0 for each in found.allocations)
    assert parts_of(found.allocations) == dict(found.loans)
    for loan_id, split in found.loans:
        owed = loans[loan_id].owed_at(at)
        assert split.interest_minor <= owed.interest_minor
        assert split.principal_minor <= owed.principal_minor


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_the_order_of_booking_the_booked_parts_are_those_of_the_value_dates(seed: int) -> None:
    chance = random.Random(seed)
    loan = random_loan(chance)
    payments = [
        (START + timedelta(days=chance.randint(0, 900), seconds=number), chance.randint(1, 10**7))
        for number in range(6)
    ]
    in_time = known_late = loan
    for at, amount_minor in sorted(payments):
        in_time = pay(in_time, amount_minor, at)
    for at, amount_minor in payments:
        known_late = pay(known_late, amount_minor, at)
        owed = known_late.owed_at(max(each.value_at for each in known_late.payments))
        assert {each.number: each.split for each in known_late.payments} == dict(owed.split)
        assert known_late.principal_left_minor == owed.principal_minor >= 0
    if in_time.state is not LoanState.PAID:
        # The loan took all of every payment, so each has the parts that it would have had if all had been known.
        assert {each.value_at: each.split for each in known_late.payments} == {
            each.value_at: each.split for each in in_time.payments
        }
    else:
        assert known_late.state is LoanState.PAID


@pytest.mark.parametrize("seed", SEEDS)
def test_unpaid_interest_never_rises_above_the_principal(seed: int) -> None:
    chance = random.Random(seed)
    loan, at = random_loan(chance), START
    for _ in range(8):
        at += timedelta(days=chance.randint(0, 1_000))
        owed = loan.owed_at(at)
        assert owed.interest_minor <= max(owed.principal_minor, 0)
        loan = pay(loan, chance.randint(1, max(1, owed.total_minor)), at)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_owed_does_not_depend_on_how_often_it_was_computed(seed: int) -> None:
    """A payment of nothing on the way changes nothing: interest is kept in fractions of a cent."""
    chance = random.Random(seed)
    loan = random_loan(chance)
    until = START + timedelta(days=chance.randint(1, 800))
    at, touched = START, loan
    while at < until:
        touched = pay(touched, 0, at)
        at += timedelta(days=chance.randint(1, 50))
    owed, plain = touched.owed_at(until), loan.owed_at(until)
    assert (owed.interest_minor, owed.penalties_minor) == (plain.interest_minor, plain.penalties_minor)


def test_penalties_run_on_instalments_that_have_been_overdue_for_a_month() -> None:
    loan = a_loan(100_000, interest_ppm=0, penalty_ppm=10_000)
    due = [loan.owed_at(datetime(2026, month, 1, 12, tzinfo=UTC)).penalties_minor for month in range(1, 6)]
    # One instalment of 10,000 is overdue by March, two by April, three by May: one percent of each, summed.
    assert due == [0, 0, 100, 300, 600]


def test_a_loan_that_is_paid_in_time_has_no_penalty_and_ends_with_its_term() -> None:
    loan = a_loan(100_000, interest_ppm=0, penalty_ppm=10_000, fee_minor=300)
    for month in range(2, 12):
        at = datetime(2026, month, 1, 12, tzinfo=UTC)
        loan = pay(loan, 10_000 + (300 if month == 2 else 0), at)
    assert loan.state is LoanState.PAID
    assert [each.split.fees_minor for each in loan.payments] == [300, *[0] * 9]
    assert sum(each.split.penalties_minor for each in loan.payments) == 0


def test_the_fee_is_due_with_the_first_instalment_or_with_the_last_of_the_principal() -> None:
    loan = a_loan(100_000, interest_ppm=0, fee_minor=300)
    early = START + timedelta(days=5)
    assert loan.owed_at(early).fees_minor == 0
    assert loan.owed_at(START + timedelta(days=31)).fees_minor == 300
    assert loan.divided(50_000, early, ORDER).fees_minor == 0
    assert loan.divided(100_500, early, ORDER).fees_minor == 300


def test_a_loan_that_was_not_paid_out_takes_nothing() -> None:
    terms = a_loan().terms
    assert Loan(terms=terms).divided(1_000, START, ORDER) == NO_SPLIT


def test_an_order_that_leaves_a_part_out_is_refused() -> None:
    with pytest.raises(InvalidOrder, match="does not name each"):
        a_loan().divided(1_000, START, (LoanPart.INTEREST, LoanPart.PRINCIPAL))


def test_days_are_those_of_nairobi() -> None:
    loan = a_loan()
    late = datetime(2026, 1, 1, 20, 59, tzinfo=UTC)
    assert loan.owed_at(late).interest_minor == 0
    assert loan.owed_at(late + timedelta(minutes=1)).interest_minor == 1_000


def test_a_month_that_is_too_short_ends_with_its_last_day() -> None:
    assert months_after(date(2026, 1, 31), 1) == date(2026, 2, 28)
    assert months_after(date(2027, 11, 30), 3) == date(2028, 2, 29)


def test_a_loan_that_is_named_twice_takes_once() -> None:
    loan = a_loan(1_000)
    targets = [Target(kind=TargetKind.LOAN, owner="LN1", limit_minor=100), Target(kind=TargetKind.LOAN, owner="LN1")]
    savings = Target(kind=TargetKind.SAVINGS, owner="M1")
    found = allocate(
        500, [*targets, savings],
        takes=lambda _loan, amount: loan.divided(amount, START, ORDER), is_open=lambda _target: True,
    )  # fmt: skip
    assert isinstance(found, Allocated)
    assert [(each.kind, each.amount_minor) for each in found.allocations] == [("PRINCIPAL", 100), ("SAVINGS", 400)]
