"""What the ledger books and refuses, on real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from chassis.postgres.transient import utc_now
from ledger.model.amounts import AMOUNT_MAX
from ledger.model.exchange import exchange
from ledger.model.payments import PaymentChange, PaymentStatus
from ledger.model.transfers import Entry, Origin, Transfer, TransferKind
from ledger.store.booking import book
from support.ledgers import FUNDING, LedgerUnderTest, hold, kinds, member, moved, post, reference, transfer, void

OTHER = "sacco:working:600000:KES"


def test_a_transfer_moves_the_totals_of_both_accounts(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    before = ledger.totals().get(FUNDING, (0, 0, 0, 0))
    ledger.fund(path, 700)
    totals = ledger.totals()
    assert totals[path] == (0, 700, 0, 0)
    assert totals[FUNDING] == (before[0] + 700, *before[1:])


def test_of_two_holds_on_the_last_thousand_one_passes(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.fund(path, 1_000)
    assert kinds(ledger.book(hold(path, OTHER, 1_000), hold(path, OTHER, 1_000))) == ["BOOKED", "INSUFFICIENT_FUNDS"]
    assert ledger.totals()[path] == (0, 1_000, 1_000, 0)


def test_a_held_amount_counts_against_a_transfer_in_another_batch(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.fund(path, 1_000)
    ledger.book(hold(path, OTHER, 600))
    assert kinds(ledger.book(transfer(path, OTHER, 500))) == ["INSUFFICIENT_FUNDS"]
    assert kinds(ledger.book(transfer(path, OTHER, 400))) == ["BOOKED"]


def test_a_hold_is_posted_for_less_and_the_rest_is_released(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.fund(path, 1_000)
    held = hold(path, OTHER, 800)
    assert kinds(ledger.book(held, post(held, *moved(path, OTHER, 300)))) == ["BOOKED", "BOOKED"]
    assert ledger.totals()[path] == (300, 1_000, 0, 0)


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_a_hold_is_resolved_once(ledger: LedgerUnderTest, is_one_batch: bool) -> None:
    path = member(reference())
    ledger.fund(path, 1_000)
    held = hold(path, OTHER, 800)
    requests = [held, void(held), void(held), post(held)]
    outcomes = ledger.book(*requests) if is_one_batch else [ledger.book(each)[0] for each in requests]
    assert kinds(outcomes) == ["BOOKED", "BOOKED", "HOLD_RESOLVED", "HOLD_RESOLVED"]
    assert ledger.totals()[path] == (0, 1_000, 0, 0)


def test_more_than_is_held_is_not_posted(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.fund(path, 1_000)
    held = hold(path, OTHER, 800)
    ledger.book(held)
    more, elsewhere = post(held, *moved(path, OTHER, 801)), post(held, *moved(path, FUNDING, 1))
    assert kinds(ledger.book(more, elsewhere)) == ["HOLD_EXCEEDED", "HOLD_EXCEEDED"]
    assert ledger.totals()[path] == (0, 1_000, 800, 0)


def test_a_refused_hold_changes_nothing_and_its_reference_may_be_used_again(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.open(path)
    held = hold(path, OTHER, 1)
    assert kinds(ledger.book(held)) == ["INSUFFICIENT_FUNDS"]
    ledger.fund(path, 1)
    assert kinds(ledger.book(held)) == ["BOOKED"]


def test_a_script_that_runs_again_after_a_lost_answer_books_nothing_twice(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.fund(path, 1_000)
    held = hold(path, OTHER, 800)
    script = [held, post(held), transfer(path, OTHER, 200)]
    assert kinds(ledger.book(*script)) == ["BOOKED"] * 3
    assert kinds(ledger.book(*script)) == ["REPEATED"] * 3
    assert kinds([*ledger.book(script[0]), *ledger.book(*script[1:])]) == ["REPEATED"] * 3
    assert ledger.totals()[path] == (1_000, 1_000, 0, 0)


def test_a_reference_in_use_is_refused_beside_the_post_of_what_has_it(ledger: LedgerUnderTest) -> None:
    path, other = member(reference()), member(reference())
    ledger.fund(path, 100)
    ledger.fund(other, 100)
    first = hold(path, OTHER, 60)
    ledger.book(first)
    again = hold(other, OTHER, 60, reference=first.reference)
    assert kinds(ledger.book(again, post(first))) == ["REFERENCE_IN_USE", "BOOKED"]
    assert (ledger.totals()[path], ledger.totals()[other]) == ((60, 100, 0, 0), (0, 100, 0, 0))


def test_another_request_under_the_same_reference_is_refused(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    first = ledger.fund(path, 1_000)
    others = [
        replace(first, entries=moved(FUNDING, path, 999)),
        replace(first, kind=TransferKind.HOLD),
        replace(first, effective_at=utc_now()),
    ]
    assert kinds(ledger.book(*others)) == ["REFERENCE_IN_USE"] * 3


def test_a_correction_names_what_it_corrects(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    first = ledger.fund(path, 1_000)
    correction = transfer(path, FUNDING, 1_000, kind=TransferKind.CORRECTION, of=first.reference)
    unknown = transfer(path, FUNDING, 1_000, kind=TransferKind.CORRECTION, of="none")
    assert kinds(ledger.book(correction, unknown)) == ["BOOKED", "CORRECTED_UNKNOWN"]
    ((named,),) = ledger.rows(
        "SELECT named.reference FROM transfers JOIN transfers AS named ON named.id = transfers.of_id"
        " WHERE transfers.reference = :reference",
        reference=correction.reference,
    )
    assert named == first.reference


@pytest.mark.parametrize("amount_minor", [2**31, 2**53 + 1, AMOUNT_MAX])
def test_an_amount_of_up_to_64_bits_keeps_every_digit(ledger: LedgerUnderTest, amount_minor: int) -> None:
    path = member(reference())
    ledger.fund(path, amount_minor)
    assert ledger.totals()[path] == (0, amount_minor, 0, 0)
    ledger.book(transfer(path, FUNDING, amount_minor))
    assert ledger.totals()[path] == (amount_minor, amount_minor, 0, 0)


def test_sums_are_wider_than_amounts(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.open(path)
    assert kinds(ledger.book(*[transfer(FUNDING, path, AMOUNT_MAX) for _ in range(3)])) == ["BOOKED"] * 3
    assert ledger.totals()[path] == (0, 3 * AMOUNT_MAX, 0, 0)


def test_an_amount_over_64_bits_is_refused(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.open(path)
    assert kinds(ledger.book(transfer(FUNDING, path, AMOUNT_MAX + 1))) == ["AMOUNT_OUT_OF_RANGE"]


@pytest.mark.parametrize(("currency", "amount_minor"), [("JPY", 1), ("KWD", 1_234)])
def test_currencies_of_other_exponents_are_minor_units_as_well(
    ledger: LedgerUnderTest, currency: str, amount_minor: int
) -> None:
    path = member(reference(), currency)
    ledger.open(path)
    entries = moved(f"sacco:bank:{currency}", path, amount_minor, currency)
    assert kinds(ledger.book(Transfer(reference=reference(), entries=entries))) == ["BOOKED"]
    assert ledger.totals()[path] == (0, amount_minor, 0, 0)


def test_an_exchange_keeps_its_rate_and_balances_in_both_currencies(ledger: LedgerUnderTest) -> None:
    merchant = reference()
    paying, paid = f"merchants:available:{merchant}:USD", f"merchants:available:{merchant}:JPY"
    ledger.open(paying, paid)
    ledger.book(Transfer(reference=reference(), entries=moved("merchants:bank:USD", paying, 1_000, "USD")))
    accounts = ("merchants:exchange:USD", "merchants:exchange:JPY")
    rate = Decimal("1.515")
    entries = exchange(Entry(paying, 1_000, "USD"), target=paid, currency="JPY", rate=rate, accounts=accounts)
    exchanged = Transfer(reference=reference(), entries=entries, exchange_rate=rate)
    assert kinds(ledger.book(replace(exchanged, exchange_rate=None), exchanged)) == ["CURRENCY_MISMATCH", "BOOKED"]
    assert ledger.totals()[paid] == (0, 1_515, 0, 0)
    ((stored,),) = ledger.rows("SELECT exchange_rate FROM transfers WHERE reference = :it", it=exchanged.reference)
    assert stored == rate


def test_what_cannot_be_booked_has_its_reason(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.open(path)
    requests = [
        transfer(FUNDING, member("unopened"), 1),
        Transfer(reference=reference(), entries=(Entry(FUNDING, 2, "KES"), Entry(path, -1, "KES"))),
        Transfer(reference=reference(), entries=moved(FUNDING, path, 1, "USD")),
        void(hold(path, OTHER, 1)),
    ]
    assert kinds(ledger.book(*requests)) == ["ACCOUNT_UNKNOWN", "UNBALANCED", "CURRENCY_MISMATCH", "HOLD_UNKNOWN"]


def test_a_hold_without_an_expiry_stays_and_one_with_an_expiry_is_only_voided_after_it(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    ledger.fund(path, 1_000)
    expires_at = utc_now() + timedelta(hours=1)
    lasting, expiring = hold(path, OTHER, 1), hold(path, OTHER, 1, expires_at=expires_at)
    ledger.book(lasting, expiring)
    with ledger.engine.begin() as tx:
        later = book([post(expiring), void(expiring), post(lasting)], tx, now=expires_at)
    assert kinds(later) == ["HOLD_EXPIRED", "BOOKED", "BOOKED"]


def test_a_payment_moves_with_its_entries_and_only_for_the_version_that_was_seen(ledger: LedgerUnderTest) -> None:
    path, payment = member(reference()), reference()
    ledger.fund(path, 1_000)

    def moving(version: int, status: PaymentStatus, amount_minor: int = 100) -> Transfer:
        change = PaymentChange(payment_id=payment, version=version, status=status)
        return transfer(path, OTHER, amount_minor, payment=change)

    assert kinds(ledger.book(moving(0, PaymentStatus.AUTHORIZED))) == ["BOOKED"]
    operator, sweep = moving(1, PaymentStatus.VOIDED), moving(1, PaymentStatus.CAPTURED)
    assert kinds([*ledger.book(operator), *ledger.book(sweep)]) == ["BOOKED", "PAYMENT_CONFLICT"]
    assert kinds(ledger.book(moving(2, PaymentStatus.CAPTURED))) == ["PAYMENT_TRANSITION"]
    assert ledger.totals()[path] == (200, 1_000, 0, 0)
    assert ledger.rows("SELECT version, status FROM payments WHERE payment_id = :it", it=payment) == [(2, "VOIDED")]
    assert kinds(ledger.book(operator, replace(operator, payment=None))) == ["REPEATED", "REFERENCE_IN_USE"]
    history = "SELECT payment_version, payment_status FROM transfers WHERE payment_id = :it ORDER BY id"
    assert ledger.rows(history, it=payment) == [(1, "AUTHORIZED"), (2, "VOIDED")]


def test_a_payment_does_not_move_where_its_entries_are_refused(ledger: LedgerUnderTest) -> None:
    path, payment = member(reference()), reference()
    ledger.open(path)
    change = PaymentChange(payment_id=payment, version=0, status=PaymentStatus.CAPTURED)
    assert kinds(ledger.book(transfer(path, OTHER, 1, payment=change))) == ["INSUFFICIENT_FUNDS"]
    assert ledger.rows("SELECT version FROM payments WHERE payment_id = :it", it=payment) == []


def test_an_entry_says_which_saga_step_and_message_it_came_from(ledger: LedgerUnderTest) -> None:
    path = member(reference())
    origin = Origin(saga_id=reference(), step="post_ledger", message_id=reference())
    ledger.fund(path, 1, origin=origin)
    found = ledger.rows("SELECT step, message_id FROM transfers WHERE saga_id = :it", it=origin.saga_id)
    assert found == [(origin.step, origin.message_id)]


@pytest.mark.parametrize("statement", ["UPDATE transfers SET step = 'x'", "DELETE FROM transfer_entries"])
def test_what_is_booked_cannot_be_changed_by_a_statement(ledger: LedgerUnderTest, statement: str) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    with pytest.raises(DBAPIError, match="corrected by new transfers"), ledger.engine.begin() as tx:
        tx.execute(text(statement))
