"""Properties of the ledger's decisions: whatever is requested, in whatever order and how often, these hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.model.accounts import Account, AccountKind, Balance
from ledger.model.amounts import AMOUNT_MAX, SUM_MAX
from ledger.model.decisions import Loaded, decide
from ledger.model.exchange import exchange, exchanged
from ledger.model.payments import NEXT, PaymentChange, PaymentStatus
from ledger.model.transfers import Booked, Entry, Reason, Refused, Transfer, TransferKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = (AccountKind.LIABILITY, AccountKind.ASSET, AccountKind.EQUITY, AccountKind.EXPENSE, AccountKind.INCOME)
STRICT = (0, 1, 2)
"""Accounts that may not go below zero; the others have no limit."""
TRANSFER, HOLD, POST, VOID = TransferKind.TRANSFER, TransferKind.HOLD, TransferKind.POST, TransferKind.VOID


def loaded() -> Loaded:
    """Return five open accounts without entries, 0 to 4."""
    accounts = {
        str(number): Account(
            id=number, path=str(number), chart="c", code="x", owner=None, kind=kind, currency="KES", lanes=1
        )
        for number, kind in enumerate(KINDS)
    }
    balances = {
        number: Balance(
            account_id=number,
            lane=0,
            sign=kind.sign,
            currency="KES",
            floor_minor=0 if number in STRICT else None,
            ceiling_minor=None,
            is_closed=False,
            debits=0,
            credits=0,
            held_debits=0,
            held_credits=0,
        )
        for number, kind in enumerate(KINDS)
    }
    return Loaded(accounts=accounts, balances=balances, ids=count(1024), booked_at=NOW)


def moved(debit: int, credit: int, amount_minor: int) -> tuple[Entry, ...]:
    return Entry(str(debit), amount_minor, "KES"), Entry(str(credit), -amount_minor, "KES")


def reason(request: Transfer, ledger: Loaded) -> Reason:
    """Return why a request is refused."""
    outcome = decide(request, ledger)
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


REFERENCES = st.integers(0, 12).map(str)
ENTRIES = st.builds(moved, st.integers(0, 4), st.integers(0, 4), st.one_of(st.integers(0, 9), st.integers(-50, 999)))
REQUESTS = st.one_of(
    st.builds(Transfer, reference=REFERENCES, kind=st.sampled_from([TRANSFER, HOLD]), entries=ENTRIES),
    st.builds(
        Transfer, reference=REFERENCES, kind=st.just(POST), of=REFERENCES, entries=st.one_of(st.just(()), ENTRIES)
    ),
    st.builds(Transfer, reference=REFERENCES, kind=st.just(VOID), of=REFERENCES),
)


@given(st.lists(REQUESTS, max_size=40))
def test_every_interleaving_keeps_the_books(requests: list[Transfer]) -> None:
    ledger = loaded()
    for request in requests:
        decide(request, ledger)

    sums: Counter[int] = Counter()
    for entry in ledger.entries:
        sums[entry.transfer_id] += entry.amount_minor
    assert set(sums.values()) <= {0}
    assert all(ledger.balances[number].available >= 0 for number in STRICT)
    references = [row.reference for row in ledger.transfers]
    assert len(references) == len(set(references))
    resolved = [row.of_id for row in ledger.transfers if row.kind in (POST, VOID)]
    assert len(resolved) == len(set(resolved))


@given(st.lists(REQUESTS, max_size=40))
def test_what_was_booked_is_repeated_and_adds_nothing(requests: list[Transfer]) -> None:
    ledger = loaded()
    booked = [request for request in requests if decide(request, ledger) == Booked(id=1023 + len(ledger.transfers))]
    count_before = len(ledger.transfers)
    for request in booked:
        outcome = decide(request, ledger)
        assert isinstance(outcome, Booked)
        assert outcome.is_repeated
    assert (len(booked), len(ledger.transfers)) == (count_before, count_before)


@given(st.lists(REQUESTS, max_size=40))
def test_every_balance_is_the_sum_of_its_entries_and_open_holds(requests: list[Transfer]) -> None:
    ledger = loaded()
    for request in requests:
        decide(request, ledger)
    resolved = {row.of_id for row in ledger.transfers if row.kind in (POST, VOID)}
    for number, balance in ledger.balances.items():
        own = [entry for entry in ledger.entries if entry.account_id == number]
        posted = [entry.amount_minor for entry in own if not entry.is_hold]
        held = [entry.amount_minor for entry in own if entry.is_hold and entry.transfer_id not in resolved]
        assert balance.debits - balance.credits == sum(posted)
        assert balance.held_debits - balance.held_credits == sum(held)
        if own:
            assert (own[-1].debits_after, own[-1].credits_after) == (balance.debits, balance.credits)


@given(st.lists(REQUESTS, max_size=30))
def test_a_refusal_changes_nothing(requests: list[Transfer]) -> None:
    ledger = loaded()
    for request in requests:
        before = [(b.debits, b.credits, b.held_debits, b.held_credits) for b in ledger.balances.values()]
        rows = len(ledger.transfers), len(ledger.entries), dict(ledger.resolved)
        if isinstance(decide(request, ledger), Refused):
            assert before == [(b.debits, b.credits, b.held_debits, b.held_credits) for b in ledger.balances.values()]
            assert rows == (len(ledger.transfers), len(ledger.entries), ledger.resolved)


def test_totals_that_would_pass_their_bound_are_refused_and_not_wrapped() -> None:
    ledger = loaded()
    ledger.balances[4].credits = SUM_MAX - AMOUNT_MAX + 1
    request = Transfer(reference="r", entries=moved(3, 4, AMOUNT_MAX))
    assert isinstance(outcome := decide(request, ledger), Refused)
    assert outcome.reason is Reason.AMOUNT_OUT_OF_RANGE
    assert (ledger.balances[3].debits, ledger.balances[4].credits) == (0, SUM_MAX - AMOUNT_MAX + 1)


def test_a_closed_account_takes_nothing_new_but_its_holds_are_resolved() -> None:
    ledger = loaded()
    hold = Transfer(reference="hold", kind=HOLD, entries=moved(3, 4, 5))
    decide(hold, ledger)
    ledger.balances[4].is_closed = True
    refused = decide(Transfer(reference="late", entries=moved(3, 4, 5)), ledger)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ACCOUNT_CLOSED
    assert isinstance(decide(Transfer(reference="post", kind=POST, of="hold"), ledger), Booked)


def test_an_account_below_its_floor_may_come_nearer_to_it() -> None:
    ledger = loaded()
    ledger.balances[0].debits = 100
    assert isinstance(decide(Transfer(reference="in", entries=moved(3, 0, 40)), ledger), Booked)
    refused = decide(Transfer(reference="out", entries=moved(0, 4, 1)), ledger)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INSUFFICIENT_FUNDS


def test_what_is_held_is_posted_although_the_floor_was_raised_since() -> None:
    ledger = loaded()
    decide(Transfer(reference="in", entries=moved(3, 0, 100)), ledger)
    decide(Transfer(reference="hold", kind=HOLD, entries=moved(0, 4, 60)), ledger)
    ledger.balances[0].floor_minor = 50
    assert reason(Transfer(reference="more", entries=moved(0, 4, 1)), ledger) is Reason.INSUFFICIENT_FUNDS
    assert isinstance(decide(Transfer(reference="post", kind=POST, of="hold"), ledger), Booked)


def test_a_hold_that_has_ended_is_neither_booked_nor_posted() -> None:
    ledger = loaded()
    decide(Transfer(reference="in", entries=moved(3, 0, 100)), ledger)
    ended = Transfer(reference="ended", kind=HOLD, entries=moved(0, 4, 60), expires_at=NOW)
    assert reason(ended, ledger) is Reason.HOLD_EXPIRED
    ends = Transfer(reference="ends", kind=HOLD, entries=moved(0, 4, 60), expires_at=NOW + timedelta(microseconds=1))
    assert isinstance(decide(ends, ledger), Booked)
    ledger.booked_at = NOW + timedelta(microseconds=1)
    assert reason(Transfer(reference="post", kind=POST, of="ends"), ledger) is Reason.HOLD_EXPIRED


@pytest.mark.parametrize("of", ["hold", "void", "nothing", None])
def test_only_what_was_booked_is_corrected(of: str | None) -> None:
    ledger = loaded()
    decide(Transfer(reference="hold", kind=HOLD, entries=moved(3, 4, 5)), ledger)
    decide(Transfer(reference="other", kind=HOLD, entries=moved(3, 4, 5)), ledger)
    decide(Transfer(reference="void", kind=VOID, of="other"), ledger)
    correction = Transfer(reference="c", kind=TransferKind.CORRECTION, of=of, entries=moved(4, 3, 5))
    assert reason(correction, ledger) is Reason.CORRECTED_UNKNOWN
    decide(Transfer(reference="post", kind=POST, of="hold"), ledger)
    assert isinstance(decide(replace(correction, of="post"), ledger), Booked)


def test_every_chart_is_balanced_by_itself() -> None:
    ledger = loaded()
    accounts = {path: replace(account, chart="cd"[account.id % 2]) for path, account in ledger.accounts.items()}
    ledger.accounts = accounts
    assert reason(Transfer(reference="across", entries=moved(3, 4, 5)), ledger) is Reason.UNBALANCED
    assert isinstance(decide(Transfer(reference="each", entries=moved(1, 3, 5) + moved(4, 2, 7)), ledger), Booked)


@pytest.mark.parametrize(
    ("rate", "bought", "fits"),
    [("1.5", 15, True), ("1.5", 16, False), ("NaN", 15, False), ("-1.5", 15, False),
     ("0", 0, False), ("Infinity", 15, False), (None, 15, False), ("1.25", 12, True), ("1.25", 13, False)],
)  # fmt: skip
def test_an_exchange_has_the_amounts_of_its_rate(rate: str | None, bought: int, fits: bool) -> None:
    ledger = loaded()
    ledger.accounts = {
        path: replace(account, currency="USD" if account.id == 0 else "KES")
        for path, account in ledger.accounts.items()
    } | {"usd": replace(ledger.accounts["4"], currency="USD")}
    ledger.balances[0].floor_minor = None
    entries = Entry("0", 10, "USD"), Entry("usd", -10, "USD"), Entry("3", bought, "KES"), Entry("4", -bought, "KES")
    exchanged_ = Transfer(reference="x", entries=entries, exchange_rate=None if rate is None else Decimal(rate))
    assert isinstance(decide(exchanged_, ledger), Booked) is fits
    assert isinstance(decide(replace(exchanged_, entries=moved(3, 4, 1)), loaded()), Booked) is (rate is None)


def test_another_payment_under_the_same_reference_is_another_request() -> None:
    ledger = loaded()
    first, other = (PaymentChange(payment_id=name, version=0, status=PaymentStatus.CAPTURED) for name in "pq")
    request = Transfer(reference="r", entries=moved(3, 4, 5), payment=first)
    assert isinstance(decide(request, ledger), Booked)
    assert decide(request, ledger) == Booked(id=1024, is_repeated=True)
    for changed in (other, None, replace(first, version=1), replace(first, status=PaymentStatus.FAILED)):
        assert reason(replace(request, payment=changed), ledger) is Reason.REFERENCE_IN_USE
    assert set(ledger.payments) == {"p"}


@pytest.mark.parametrize(("seconds", "is_late"), [(-1, True), (0, False)])
def test_what_has_a_value_date_before_the_close_is_late(seconds: int, is_late: bool) -> None:
    ledger = loaded()
    closed_until = NOW - timedelta(days=1)
    ledger.closed_until = {"c": closed_until}
    effective_at = closed_until + timedelta(seconds=seconds)
    decide(Transfer(reference="r", entries=moved(3, 4, 5), effective_at=effective_at), ledger)
    assert [row.is_late for row in ledger.transfers] == [is_late]


@given(
    amount_minor=st.integers(-AMOUNT_MAX, AMOUNT_MAX),
    rate=st.decimals(min_value=Decimal("0.000001"), max_value=Decimal(1_000_000), places=6),
)
def test_an_exchange_is_balanced_in_both_currencies_and_within_half_a_unit_of_its_rate(
    amount_minor: int, rate: Decimal
) -> None:
    entries = exchange(Entry("a", amount_minor, "USD"), target="b", currency="JPY", rate=rate, accounts=("x", "y"))
    for currency in ("USD", "JPY"):
        assert sum(entry.amount_minor for entry in entries if entry.currency == currency) == 0
    numerator, denominator = rate.as_integer_ratio()
    assert abs(2 * (exchanged(amount_minor, rate) * denominator - amount_minor * numerator)) <= denominator


@given(st.lists(st.tuples(st.sampled_from(PaymentStatus), st.integers(0, 4)), max_size=20))
def test_a_payment_moves_along_its_transitions_one_version_at_a_time(changes: list[tuple[PaymentStatus, int]]) -> None:
    ledger = loaded()
    status, version = None, 0
    for number, (wanted, seen) in enumerate(changes):
        change = PaymentChange(payment_id="p", version=seen, status=wanted)
        outcome = decide(Transfer(reference=f"r{number}", payment=change), ledger)
        if seen == version and wanted in NEXT[status]:
            assert isinstance(outcome, Booked)
            status, version = wanted, version + 1
        else:
            assert isinstance(outcome, Refused)
            assert outcome.reason is (Reason.PAYMENT_CONFLICT if seen != version else Reason.PAYMENT_TRANSITION)
        assert (ledger.payments["p"].version if "p" in ledger.payments else 0) == version
