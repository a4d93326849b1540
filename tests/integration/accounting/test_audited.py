"""The audit computes every total again; whatever is planted behind the ledger's back is found by its rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from baraza.audit.ledger import COUNTS, DIFFERENCES, DIFFERENCES_FROM_SAGAS
from baraza.bench.ledger_copies import copy_transfers
from chassis.postgres.transient import utc_now
from ledger.model.payments import PaymentChange, PaymentStatus
from ledger.model.transfers import Entry, Origin, Transfer, TransferKind
from ledger.store.expiry import ExpiredHolds
from stack import Stack
from support.ledgers import CURRENCY, LedgerUnderTest, hold, kinds, member, moved, post, scratch_ledger, transfer, void

BANK, WORKING = f"sacco:bank:{CURRENCY}", f"sacco:working:600000:{CURRENCY}"
UTILITY = f"sacco:utility:600000:{CURRENCY}"
"""It has several rows, so that a hold is released on another row than it was made on."""
SAGA = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
UNDONE, HELD = "01ARZ3NDEKTSV4RRFFQ69G5FAW", "01ARZ3NDEKTSV4RRFFQ69G5FAX"
SALE = moved("shop:gateway_receivable:USD", "shop:sales:USD", 450, "USD")
FREE = "SET LOCAL session_replication_role = replica"


@pytest.fixture(scope="module")
def audited(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    with scratch_ledger(infrastructure) as ledger:
        ledger.fund(member("ann"), 1_000)
        for _ in range(20):
            posted, voided, kept = (hold(UTILITY, BANK, amount) for amount in (7, 8, 9))
            ledger.book(posted, voided, kept, transfer(member("ann"), WORKING, 3))
            ledger.book(post(posted, *(transfer(UTILITY, BANK, 5).entries)))
            ledger.book(void(voided))
        for version, status in enumerate((PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED)):
            change = PaymentChange(payment_id="paid", version=version, status=status)
            ledger.book(Transfer(reference=f"paid {version}", payment=change))
        origin = Origin(saga_id=SAGA, step="post_ledger", message_id="m")
        ledger.book(Transfer(reference=f"{SAGA}:post_ledger", entries=SALE, origin=origin))
        yield ledger


def found(ledger: LedgerUnderTest, *damage: str, queries: Sequence[str] = DIFFERENCES) -> set[str]:
    """Do the damage as the superuser, and return the rules that the audit finds broken."""
    with ledger.engine.connect() as tx:
        for statement in (FREE, *damage):
            tx.execute(text(statement))
        rules = {row[0] for query in queries for row in tx.execute(text(query))}
        tx.rollback()
    return rules


def test_an_untouched_ledger_is_sound(audited: LedgerUnderTest) -> None:
    assert found(audited) == set()
    counts = {row.rule: row.count for row in audited.rows(COUNTS)}
    assert counts["transfers-balanced"] == 1 + 20 * 6 + 2 + 1
    assert counts["running-totals"] == 2 * (1 + 20 * 5 + 1)
    assert (counts["holds-resolved-once"], counts["within-limits"]) == (40, 1)


SOME_ENTRY = "WHERE (transfer_id, ordinal) = (SELECT max(id), 1 FROM transfers WHERE kind = 'POST')"
A_RESOLVED_HOLD = "(SELECT min(of_id) FROM transfers WHERE kind = 'POST')"
WITHOUT_ITS_INDEX = "DO $$ BEGIN DROP INDEX transfers_resolved; END $$"
SECOND_VOID = """
    INSERT INTO transfers (id, reference, kind, of_id, booked_at, effective_at, is_late, entry_count)
    SELECT id + 900, 'planted', 'VOID', id, booked_at, effective_at, false, 0 FROM transfers WHERE id = {hold}
"""
BOTH_MORE = """
    UPDATE transfer_entries SET amount_minor = amount_minor + sign(amount_minor) * 5
    WHERE transfer_id = (SELECT id FROM transfers WHERE kind = 'POST' AND of_id = {hold})
"""


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        ("transfers-balanced", ("UPDATE transfer_entries SET amount_minor = amount_minor + 1 {entry}",)),
        ("transfers-balanced", ("DELETE FROM transfer_entries {entry}",)),
        ("transfers-balanced", ("UPDATE transfer_entries SET transfer_id = 1 {entry}",)),
        ("transfers-balanced", ("UPDATE transfer_entries SET account_id = 1000000 {entry}",)),
        ("transfers-balanced", ("DELETE FROM transfer_entries WHERE transfer_id IN (SELECT max(id) FROM transfers)",)),
        ("balances-are-entries", ("UPDATE balances SET debits = debits + 1 WHERE lane = 0",)),
        ("balances-are-entries", ("UPDATE balances SET credits = credits - 1 WHERE credits > 0",)),
        ("balances-are-entries", ("UPDATE balances SET held_credits = held_credits + 1 WHERE lane = 0",)),
        ("balances-are-entries", ("DELETE FROM balances WHERE credits > 0",)),
        ("balances-are-entries", ("UPDATE transfer_entries SET lane = 7 {entry}",)),
        (
            "balances-are-entries",
            ("UPDATE transfers SET of_id = NULL, kind = 'TRANSFER' WHERE kind = 'VOID'",),
        ),
        ("running-totals", ("UPDATE transfer_entries SET debits_after = debits_after + 1 {entry}",)),
        ("running-totals", ("UPDATE transfer_entries SET booked_at = booked_at - interval '1 year' {entry}",)),
        ("within-limits", ("UPDATE balances SET floor_minor = 941 WHERE floor_minor = 0",)),
        ("within-limits", ("UPDATE balances SET debits = debits + 941 WHERE floor_minor = 0",)),
        ("within-limits", ("UPDATE balances SET ceiling_minor = 939 WHERE floor_minor = 0",)),
        ("holds-resolved-once", (WITHOUT_ITS_INDEX, SECOND_VOID)),
        ("holds-resolved-once", ("UPDATE transfers SET kind = 'TRANSFER' WHERE id = {hold}",)),
        ("holds-resolved-once", (BOTH_MORE,)),
        ("transfers-balanced", ("UPDATE accounts SET chart = 'shop' WHERE code = 'working'",)),
        ("payments-as-moved", ("INSERT INTO payments VALUES ('invented', 1, 'CAPTURED', now())",)),
        ("payments-as-moved", ("UPDATE payments SET status = 'REFUNDED'",)),
        ("payments-as-moved", ("DELETE FROM payments",)),
        ("payments-as-moved", ("UPDATE transfers SET payment_id = NULL WHERE payment_status = 'AUTHORIZED'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET kind = 'LIABILITY' WHERE code = 'bank'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET code = 'vault' WHERE code = 'bank'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET code = 'working' WHERE code = 'bank'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET chart = 'merchants' WHERE code = 'bank'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET currency = 'USD' WHERE code = 'bank'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET owner = 'ben' WHERE code = 'bank'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET owner = 'ben' WHERE owner = 'ann'",)),
        ("accounts-are-the-charts", ("UPDATE accounts SET lanes = 4 WHERE lanes = 8",)),
        ("accounts-are-the-charts", ("DELETE FROM balances WHERE lane = 7",)),
        ("accounts-are-the-charts", ("UPDATE balances SET floor_minor = NULL",)),
        ("accounts-are-the-charts", ("UPDATE balances SET floor_minor = -100000 WHERE floor_minor = 0",)),
        ("accounts-are-the-charts", ("UPDATE balances SET ceiling_minor = 100000 WHERE lane = 7",)),
        ("accounts-are-the-charts", ("UPDATE balances SET is_closed = true WHERE floor_minor = 0",)),
        ("accounts-are-the-charts", ("UPDATE balances SET is_closed = true WHERE lane = 7",)),
    ],
)
def test_planted_damage_is_found(audited: LedgerUnderTest, rule: str, damage: tuple[str, ...]) -> None:
    assert rule in found(audited, *(each.format(entry=SOME_ENTRY, hold=A_RESOLVED_HOLD) for each in damage))


def test_copies_of_orders_in_bulk_are_sound(audited: LedgerUnderTest) -> None:
    """2,500 copies fill more than two blocks of ids; the service books after them."""
    url = audited.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        copy_transfers(connection, range(1, 2_501), first_original="01", length=10)
    assert audited.rows("SELECT count(*), count(DISTINCT saga_id) FROM transfers WHERE saga_id < '01'") == [
        (2500, 2500)
    ]
    assert kinds(audited.book(Transfer(reference="after", entries=SALE))) == ["BOOKED"]
    assert found(audited) == set()
    audited.check()


PROPOSED = """
    INSERT INTO manual_postings (posting_id, key, accounts, amounts, currencies, effective_at, reason, proposed_by,
                                 proposed_at, state, decided_by)
    VALUES (:saga_id, 'a', ARRAY[:bank, :working], '{7,-7}', '{KES,KES}', '2025-12-31', 'r', 'ann', now(), 'FAILED',
            'ben')
"""
VALUE_DATE = datetime(2025, 12, 31, tzinfo=UTC)


@pytest.fixture(scope="module")
def of_sagas(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    """Three sagas' steps, one of which is undone, and a hold that the service voids once its end has passed."""
    with scratch_ledger(infrastructure) as ledger:
        for saga_id, state in ((SAGA, "DONE"), (UNDONE, "UNDONE")):
            add_effect(ledger, saga_id, "post_ledger", state)
            ledger.book(
                Transfer(
                    reference=f"{saga_id}:post_ledger",
                    entries=SALE,
                    origin=Origin(saga_id=saga_id, step="post_ledger"),
                )
            )
        undo = Origin(saga_id=UNDONE, step="post_ledger")
        entries = tuple(Entry(each.account, -each.amount_minor, each.currency) for each in SALE)
        ledger.book(
            Transfer(
                reference=f"{UNDONE}:post_ledger:undo",
                kind=TransferKind.CORRECTION,
                of=f"{UNDONE}:post_ledger",
                entries=entries,
                origin=undo,
            )
        )
        add_effect(ledger, HELD, "hold_manual_posting", "DONE")
        with ledger.engine.begin() as tx:
            tx.execute(text(PROPOSED), {"saga_id": HELD, "bank": BANK, "working": WORKING})
        origin = Origin(saga_id=HELD, step="hold_manual_posting")
        expires_at = utc_now() + timedelta(hours=1)
        reference = f"{HELD}:hold_manual_posting"
        dated = {"effective_at": VALUE_DATE, "expires_at": expires_at}
        ledger.book(hold(BANK, WORKING, 7, reference=reference, origin=origin, **dated))
        with ledger.engine.begin() as tx:
            ExpiredHolds().void(tx, now=expires_at)
        yield ledger


def add_effect(ledger: LedgerUnderTest, saga_id: str, step: str, state: str) -> None:
    with ledger.engine.begin() as tx:
        tx.execute(
            text("INSERT INTO effects (saga_id, step, state, updated_at) VALUES (:saga_id, :step, :state, now())"),
            {"saga_id": saga_id, "step": step, "state": state},
        )


FORGED = """
    INSERT INTO transfers (id, reference, kind, of_id, booked_at, effective_at, is_late, entry_count, saga_id, step)
    SELECT id + 900, {reference}, {kind}, {of_id}, booked_at, effective_at, false, 0, {saga_id}, 'post_ledger'
    FROM transfers WHERE reference = '{saga}:post_ledger'
"""


def test_transfers_of_steps_and_voids_of_expired_holds_are_sound(of_sagas: LedgerUnderTest) -> None:
    assert len(of_sagas.rows("SELECT FROM transfers")) == 5
    assert found(of_sagas, queries=(*DIFFERENCES, *DIFFERENCES_FROM_SAGAS)) == set()


@pytest.mark.parametrize(
    ("reference", "kind", "of_id", "saga_id"),
    [
        ("'theft'", "kind", "NULL", "NULL"),
        ("'theft'", "kind", "NULL", "saga_id"),
        ("saga_id || '-2' || reference", "kind", "NULL", "saga_id || '-2'"),
        ("reference || chr(58) || 'undo'", "'CORRECTION'", "id", "saga_id"),
        ("reference || chr(58) || 'expired'", "'VOID'", "id", "NULL"),
    ],
)
def test_a_transfer_that_no_step_did_is_found(
    of_sagas: LedgerUnderTest, reference: str, kind: str, of_id: str, saga_id: str
) -> None:
    forged = FORGED.format(reference=reference, kind=kind, of_id=of_id, saga_id=saga_id, saga=SAGA)
    assert found(of_sagas, forged, queries=DIFFERENCES_FROM_SAGAS) == {"booked-by-steps"}


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM effects WHERE state = 'UNDONE'",
        "UPDATE effects SET state = 'REJECTED' WHERE state = 'DONE'",
        "UPDATE effects SET state = 'DONE' WHERE state = 'UNDONE'",
        "UPDATE transfers SET step = NULL WHERE kind = 'CORRECTION'",
        "UPDATE transfers SET booked_at = expires_at - interval '1 second' WHERE kind = 'HOLD';"
        " UPDATE transfers SET expires_at = NULL WHERE kind = 'HOLD'",
    ],
)
def test_a_transfer_whose_step_did_not_do_it_is_found(of_sagas: LedgerUnderTest, damage: str) -> None:
    assert found(of_sagas, damage, queries=DIFFERENCES_FROM_SAGAS) == {"booked-by-steps"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE manual_postings SET amounts = '{8,-8}'",
        "UPDATE manual_postings SET accounts = accounts[2:2] || accounts[1:1]",
        "UPDATE manual_postings SET currencies = '{KES,USD}'",
        "UPDATE manual_postings SET amounts = '{}', accounts = '{}', currencies = '{}'",
        "UPDATE manual_postings SET effective_at = effective_at + interval '1 microsecond'",
        "UPDATE transfer_entries SET amount_minor = 2 * amount_minor WHERE is_hold",
    ],
)
def test_a_manual_posting_that_is_not_what_was_held_is_found(of_sagas: LedgerUnderTest, damage: str) -> None:
    assert found(of_sagas, damage, queries=DIFFERENCES_FROM_SAGAS) == {"booked-as-proposed"}
