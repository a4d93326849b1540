"""What the ledger's steps book inside of a transaction of the chassis: effects, transfers and answers together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from chassis.postgres.transient import utc_now
from chassis.wire.envelope import new_id
from ledger.domain import HOLD_MANUAL_POSTING, POST_MANUAL_POSTING, NotBooked
from ledger.sagas.manual_posting import OnePerson
from ledger.sagas.manual_posting import hold as manual_hold
from ledger.store.accounts import close_account
from messages.contract import Message
from messages.ledger import (
    CorrectManualPosting,
    LedgerPosted,
    LedgerReversed,
    ManualPostingApproved,
    ManualPostingCorrected,
    ManualPostingHeld,
    ManualPostingPosted,
    ManualPostingRejected,
    ManualPostingVoided,
    ReverseLedger,
    VoidManualPosting,
)
from messages.payment import PaymentCaptured
from messages.saga import FenceSaga, SagaFenced
from support.builders import a
from support.ledger_steps import handle, only
from support.ledgers import FUNDING, LedgerUnderTest, hold, member, reference, transfer, void


def entries_of(under_test: LedgerUnderTest, name: str) -> list[tuple[str, int]]:
    """Return the accounts of a transfer's entries with their amounts."""
    query = """
        SELECT path, amount_minor FROM transfers JOIN transfer_entries ON transfer_id = transfers.id
        JOIN accounts ON accounts.id = account_id WHERE reference = :name ORDER BY ordinal
    """
    return [(path, amount) for path, amount in under_test.rows(query, name=name)]


HOUR = timedelta(hours=1)
TWO_PEOPLE = {"proposed_by": "ann", "approved_by": "ben"}


def approved(debit: str, credit: str, amount_minor: int, **fields: Any) -> ManualPostingApproved:
    sides = [(debit, amount_minor), (credit, -amount_minor)]
    entries = [{"account": path, "amount_minor": amount, "currency": "KES"} for path, amount in sides]
    return a(ManualPostingApproved, **{"entries": entries, "saga_type": "manual_posting", **TWO_PEOPLE, **fields})


def next_of(answer: Message, message_type: type[Message], **fields: Any) -> Any:
    """Return a message of the saga of this one."""
    return a(message_type, saga_id=answer.saga_id, saga_type=answer.saga_type, **fields)


def test_a_captured_payment_debits_card_and_points_and_credits_sales(ledger: LedgerUnderTest) -> None:
    event = a(PaymentCaptured, currency="USD", amount_minor=900, points_minor=100)
    answer = only(ledger, event)
    assert isinstance(answer, LedgerPosted)
    assert (answer.amount_minor, answer.currency) == (900, "USD")
    assert entries_of(ledger, f"{event.saga_id}:post_ledger") == [
        ("shop:gateway_receivable:USD", 900),
        ("shop:points_liability:USD", 100),
        ("shop:sales:USD", -1_000),
    ]


@pytest.mark.parametrize("hours", [-30 * 24, 24])
def test_a_clock_of_another_service_decides_no_time_of_booking(ledger: LedgerUnderTest, hours: int) -> None:
    began = utc_now()
    event = a(PaymentCaptured, currency="JPY", amount_minor=900, points_minor=0, occurred_at=began + hours * HOUR)
    only(ledger, event)
    ((booked_at, opened_at, effective_at),) = ledger.rows(
        """
        SELECT transfers.booked_at, max(opened_at), transfers.effective_at
        FROM transfers JOIN transfer_entries ON transfer_id = transfers.id JOIN accounts ON accounts.id = account_id
        WHERE saga_id = :it GROUP BY transfers.id
        """,
        it=event.saga_id,
    )
    assert began <= booked_at <= utc_now()
    assert opened_at <= booked_at
    assert effective_at == event.occurred_at


def test_without_points_there_is_no_entry_of_points(ledger: LedgerUnderTest) -> None:
    """Also an event of an earlier release has none: its reader fills the field with 0."""
    event = a(PaymentCaptured, currency="USD", amount_minor=900, points_minor=0)
    only(ledger, event)
    assert [amount for _, amount in entries_of(ledger, f"{event.saga_id}:post_ledger")] == [900, -900]


@pytest.mark.parametrize("points_minor", [0, 100])
def test_a_reversal_is_a_transfer_that_corrects_every_entry_once(ledger: LedgerUnderTest, points_minor: int) -> None:
    event = a(PaymentCaptured, currency="USD", amount_minor=900, points_minor=points_minor)
    only(ledger, event)
    command = next_of(event, ReverseLedger, step="post_ledger")
    answers = [only(ledger, command), only(ledger, next_of(event, ReverseLedger, step="post_ledger"))]
    assert [type(each) for each in answers] == [LedgerReversed] * 2
    assert [(each.undone, each.amount_minor) for each in answers] == [(True, 900 + points_minor), (False, 0)]
    booked = entries_of(ledger, f"{event.saga_id}:post_ledger")
    assert entries_of(ledger, f"{event.saga_id}:post_ledger:undo") == [(path, -amount) for path, amount in booked]
    named = "SELECT reference FROM transfers WHERE id = (SELECT of_id FROM transfers WHERE reference = :undo)"
    assert ledger.rows(named, undo=f"{event.saga_id}:post_ledger:undo") == [(f"{event.saga_id}:post_ledger",)]


def test_a_posting_of_the_release_before_is_reversed_by_this_one(ledger: LedgerUnderTest) -> None:
    saga_id = new_id()
    add = text(
        "INSERT INTO entries (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)"
        " VALUES (:saga_id, 'POST', :account, :debit, :credit, 'USD', now())"
    )
    with ledger.engine.begin() as tx:
        for account, debit, credit in (("gateway_receivable", 700, 0), ("sales", 0, 700)):
            tx.execute(add, {"saga_id": saga_id, "account": account, "debit": debit, "credit": credit})
        done = "INSERT INTO effects (saga_id, step, state, updated_at) VALUES (:saga_id, 'post_ledger', 'DONE', now())"
        tx.execute(text(done), {"saga_id": saga_id})
    answer = only(ledger, a(ReverseLedger, saga_id=saga_id, step="post_ledger"))
    assert (answer.undone, answer.amount_minor) == (True, 700)
    assert sorted(entries_of(ledger, f"{saga_id}:post_ledger:undo")) == [
        ("shop:gateway_receivable:USD", -700),
        ("shop:sales:USD", 700),
    ]


def test_a_process_of_the_release_before_reverses_a_posting_with_points(ledger: LedgerUnderTest) -> None:
    event = a(PaymentCaptured, currency="USD", amount_minor=900, points_minor=100)
    only(ledger, event)
    with ledger.engine.begin() as tx:
        tx.execute(
            text(
                "INSERT INTO entries (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)"
                " SELECT saga_id, 'REVERSE', account, credit_minor, debit_minor, currency, now()"
                " FROM entries WHERE saga_id = :saga_id AND kind = 'POST' ORDER BY account"
            ),
            {"saga_id": event.saga_id},
        )
    booked = entries_of(ledger, f"{event.saga_id}:post_ledger")
    undone = entries_of(ledger, f"{event.saga_id}:post_ledger:undo")
    assert sorted(undone) == sorted((path, -amount) for path, amount in booked)
    counted = "SELECT entry_count FROM transfers WHERE reference = :undo"
    assert ledger.rows(counted, undo=f"{event.saga_id}:post_ledger:undo") == [(3,)]


def test_a_manual_posting_is_held_and_then_posted(ledger: LedgerUnderTest) -> None:
    payer = member(reference())
    ledger.fund(payer, 1_000)
    event = approved(payer, "sacco:fees:KES", 400)
    held = only(ledger, event)
    assert isinstance(held, ManualPostingHeld)
    assert ledger.totals()[payer] == (0, 1_000, 400, 0)
    answer = only(ledger, held)
    assert isinstance(answer, ManualPostingPosted)
    assert answer.reference == f"{event.saga_id}:{POST_MANUAL_POSTING}"
    assert entries_of(ledger, answer.reference) == [(payer, 400), ("sacco:fees:KES", -400)]
    assert ledger.totals()[payer] == (400, 1_000, 0, 0)
    dated = "SELECT DISTINCT effective_at FROM transfers WHERE saga_id = :saga_id"
    assert ledger.rows(dated, saga_id=event.saga_id) == [(event.effective_at,)]


def test_what_is_delivered_again_books_nothing_again(ledger: LedgerUnderTest) -> None:
    payer = member(reference())
    ledger.fund(payer, 1_000)
    event = approved(payer, "sacco:fees:KES", 400)
    held = only(ledger, event)
    assert handle(ledger, event) == []
    only(ledger, held)
    assert handle(ledger, held, event) == []
    assert ledger.totals()[payer] == (400, 1_000, 0, 0)


def rejected(under_test: LedgerUnderTest, *events: Message) -> list[str]:
    """Return the reasons of the rejections of these events."""
    answers = handle(under_test, *events)
    assert all(isinstance(each, ManualPostingRejected) for each in answers), answers
    return [each.reason for each in answers if isinstance(each, ManualPostingRejected)]


def test_what_the_business_rejects_is_rejected_with_its_reason_and_holds_nothing(ledger: LedgerUnderTest) -> None:
    payer, closed, capped = member(reference()), member(reference()), member(reference())
    ledger.fund(payer, 1_000)
    ledger.open(closed)
    ledger.open(capped, ceiling_minor=500)
    with ledger.engine.begin() as tx:
        assert close_account(closed, tx)
    events = [
        approved(payer, FUNDING, 1_001),
        approved(payer, closed, 1),
        approved(payer, capped, 501),
        approved(payer, member(reference()), 1),
        approved(payer, FUNDING, 1, entries=[
            {"account": payer, "amount_minor": 1, "currency": "USD"},
            {"account": "sacco:fees:USD", "amount_minor": -1, "currency": "USD"},
        ]),
    ]  # fmt: skip
    assert rejected(ledger, *events) == [
        "insufficient_funds",
        "account_closed",
        "limit_exceeded",
        "account_unknown",
        "currency_mismatch",
    ]
    assert ledger.totals()[payer] == (0, 1_000, 0, 0)


def test_of_two_holds_on_the_last_amount_in_one_batch_exactly_one_passes(ledger: LedgerUnderTest) -> None:
    payer = member(reference())
    ledger.fund(payer, 1_000)
    answers = handle(ledger, approved(payer, FUNDING, 1_000), approved(payer, FUNDING, 1_000))
    assert [type(each) for each in answers] == [ManualPostingHeld, ManualPostingRejected]


def test_a_hold_is_undone_by_a_void_and_a_post_by_a_correction(ledger: LedgerUnderTest) -> None:
    payer = member(reference())
    ledger.fund(payer, 1_000)
    event = approved(payer, "sacco:fees:KES", 400)
    only(ledger, event)
    answer = only(ledger, next_of(event, VoidManualPosting, step=HOLD_MANUAL_POSTING))
    assert isinstance(answer, ManualPostingVoided)
    assert answer.undone
    assert ledger.totals()[payer] == (0, 1_000, 0, 0)

    event = approved(payer, "sacco:fees:KES", 400)
    only(ledger, only(ledger, event))
    answer = only(ledger, next_of(event, CorrectManualPosting, step=POST_MANUAL_POSTING))
    assert isinstance(answer, ManualPostingCorrected)
    assert answer.undone
    assert only(ledger, next_of(event, VoidManualPosting, step=HOLD_MANUAL_POSTING)).undone
    assert ledger.totals()[payer] == (400, 1_400, 0, 0)


def test_an_undo_that_comes_before_its_step_fences_it(ledger: LedgerUnderTest) -> None:
    payer = member(reference())
    ledger.fund(payer, 1_000)
    event = approved(payer, FUNDING, 400)
    assert not only(ledger, next_of(event, VoidManualPosting, step=HOLD_MANUAL_POSTING)).undone
    assert handle(ledger, event) == []
    assert ledger.totals()[payer] == (0, 1_000, 0, 0)


def test_a_fence_between_hold_and_post_keeps_the_post_away(ledger: LedgerUnderTest) -> None:
    payer = member(reference())
    ledger.fund(payer, 1_000)
    event = approved(payer, FUNDING, 400)
    held = only(ledger, event)
    assert isinstance(
        only(ledger, next_of(event, FenceSaga, steps=[HOLD_MANUAL_POSTING, POST_MANUAL_POSTING])), SagaFenced
    )
    assert handle(ledger, held) == []
    assert only(ledger, next_of(event, VoidManualPosting, step=HOLD_MANUAL_POSTING)).undone
    assert ledger.totals()[payer] == (0, 1_000, 0, 0)


def test_a_refusal_that_no_business_rejects_is_an_error(ledger: LedgerUnderTest) -> None:
    """A post without its hold cannot happen by our protocol: it is retried, and then it waits for a person."""
    event = a(ManualPostingHeld, saga_type="manual_posting")
    with pytest.raises(NotBooked, match="HOLD_UNKNOWN"):
        handle(ledger, event)


def test_a_hold_that_something_else_resolved_is_undone_already(ledger: LedgerUnderTest) -> None:
    """As by its expiry."""
    payer = member(reference())
    ledger.fund(payer, 1_000)
    event = approved(payer, FUNDING, 400)
    only(ledger, event)
    voided = void(hold(payer, FUNDING, 400, reference=f"{event.saga_id}:{HOLD_MANUAL_POSTING}"))
    ledger.book(voided)
    assert only(ledger, next_of(event, VoidManualPosting, step=HOLD_MANUAL_POSTING)).undone
    assert ledger.totals()[payer] == (0, 1_000, 0, 0)


def test_a_batch_of_many_steps_is_decided_in_its_order(ledger: LedgerUnderTest) -> None:
    """Postings of orders, holds and commands in one transaction; each account is summed once."""
    payer = member(reference())
    ledger.fund(payer, 1_000)
    events: Sequence[Message] = [
        *(a(PaymentCaptured, currency="USD", amount_minor=5, points_minor=1) for _ in range(20)),
        *(approved(payer, FUNDING, 100) for _ in range(12)),
    ]
    answers = handle(ledger, *events)
    kinds = [type(each).__name__ for each in answers]
    counted = {name: kinds.count(name) for name in set(kinds)}
    assert counted == {"LedgerPosted": 20, "ManualPostingHeld": 10, "ManualPostingRejected": 2}
    assert ledger.book(transfer(payer, FUNDING, 1))[0].reason == "INSUFFICIENT_FUNDS"  # type: ignore[union-attr]


def test_an_event_of_one_person_alone_holds_nothing(ledger: LedgerUnderTest) -> None:
    """Our API publishes none. It is an error, so its saga waits for a person."""
    payer = member(reference())
    ledger.fund(payer, 1_000)
    event = approved(payer, FUNDING, 5, approved_by="ann")
    with pytest.raises(OnePerson):
        manual_hold(event)
    # The table refuses the row as well, whichever of its handlers comes first.
    with pytest.raises((OnePerson, IntegrityError)):
        handle(ledger, event)
    assert ledger.totals()[payer] == (0, 1_000, 0, 0)
