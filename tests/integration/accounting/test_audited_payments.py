"""The audit reads merchants' payments from the ledger as it really is, and finds what is planted behind its back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Connection, text

from baraza.audit import scratch
from baraza.audit.ledger import DIFFERENCES, DIFFERENCES_FROM_SAGAS
from baraza.audit.payments import BOOKED_PAYMENTS, BOOKED_SAGAS, PAYMENT_INVARIANTS
from baraza.audit.report import judge
from stack import Stack
from support.ledger_steps import handle
from support.ledgers import LedgerUnderTest, scratch_ledger
from support.merchant_bookings import MerchantUnderTest, PaymentUnderTest, settlement

FREE = "SET LOCAL session_replication_role = replica"
OF_LEDGER = tuple(
    each
    for each in PAYMENT_INVARIANTS
    if each.name
    in (
        "payments-within-captured", "payments-are-entries", "payment-status-is-its-money", "held-for-open-payments",
        "payments-committed-once",
    )
)  # fmt: skip
"""Those that need the ledger alone."""


@pytest.fixture(scope="module")
def audited(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    """A ledger with a payment in every status, each with a saga of every kind."""
    with scratch_ledger(infrastructure) as ledger:
        merchant = MerchantUnderTest(ledger=ledger)
        merchant.register()

        def new(capture: str = "NOW") -> PaymentUnderTest:
            return PaymentUnderTest(of=merchant, capture=capture)

        captured, parted, refunded, disputed, failed = (new().commit() for _ in range(5))
        handle(ledger, captured.refund(10).requested())
        parted.refund(40).commit()
        refund = refunded.refund(100)
        handle(ledger, refund.requested())
        handle(ledger, refund.refunded())
        handle(ledger, disputed.reversal("DISPUTED", 60, gateway_reference="dp_1"))
        handle(ledger, disputed.reversal("DISPUTED", 40, gateway_reference="dp_2"))
        handle(ledger, disputed.reversal("DISPUTE_WON", 60, gateway_reference="dp_1"))
        failed.refund(30).commit()
        handle(ledger, failed.reversal("CAPTURE_FAILED"))
        reserved, accepted, released, corrected = (new() for _ in range(4))
        handle(ledger, *(each.validated() for each in (reserved, accepted, released, corrected)))
        handle(ledger, accepted.accepted(), corrected.accepted())
        handle(ledger, released.release(), corrected.release())
        authorized, voided, expired, later = (new("LATER") for _ in range(4))
        handle(ledger, *(each.validated() for each in (authorized, voided, expired, later)))
        handle(ledger, *(each.captured(0) for each in (authorized, voided, expired, later)))
        handle(ledger, voided.voided(), expired.reversal("AUTHORIZATION_EXPIRED"), later.captured_later(70))
        handle(ledger, settlement((merchant, 97), paid_minor=97, cost_minor=3))
        yield ledger


def found(ledger: LedgerUnderTest, *damage: str, are_under_way: bool = True) -> set[str]:
    """Do the damage as the superuser, and return the invariants that are broken.

    Without ``are_under_way`` every saga has ended by now.
    """
    with ledger.engine.connect() as tx, closing(sqlite3.connect(":memory:", isolation_level=None)) as read:
        for statement in (FREE, *damage):
            tx.execute(text(statement))
        read.executescript(scratch.SCHEMA)
        for table, query in (("booked_payments", BOOKED_PAYMENTS), ("booked_sagas", BOOKED_SAGAS)):
            fill(read, table, query, tx)
        read.executemany("INSERT INTO sagas VALUES (?, ?, 1, ?, NULL, 0, 0)", sagas_of(tx))
        if not are_under_way:
            read.execute("UPDATE sagas SET state = 'CANCELLED_COMPENSATED' WHERE state = 'PENDING'")
        read.executescript(scratch.VIEWS)
        broken = {finding.invariant.name for finding in judge(read, OF_LEDGER) if finding.total}
        broken |= {row[0] for query in (*DIFFERENCES, *DIFFERENCES_FROM_SAGAS) for row in tx.execute(text(query))}
        tx.rollback()
    return broken


def fill(read: sqlite3.Connection, table: str, query: str, tx: Connection) -> None:
    rows = [tuple(row) for row in tx.exec_driver_sql(query)]
    assert rows
    read.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608


def sagas_of(tx: Connection) -> list[tuple[str, str, str]]:
    """Return the sagas as the tracker has them: one is open that only holds, or whose capture is accepted."""
    rows = tx.execute(text("SELECT saga_id, step, kind, payment_status FROM transfers WHERE saga_id IS NOT NULL"))
    of_saga: dict[str, list[tuple[str, str, str | None]]] = {}
    for saga_id, step, kind, status in rows:
        of_saga.setdefault(saga_id, []).append((step, kind, status))
    return [(saga_id, *_saga(steps)) for saga_id, steps in of_saga.items()]


def _saga(steps: list[tuple[str, str, str | None]]) -> tuple[str, str]:
    names = {step for step, _, _ in steps}
    is_refund = "refund_gateway" in names or (names == {"reserve_balance"} and steps[0][2] == "CAPTURED")
    kind = "refund" if is_refund else "payment" if "reserve_balance" in names else "other"
    if "commit_ledger" in names or "post_reversal" in names or "post_settlement" in names:
        return kind, "CONFIRMED"
    is_undone = any(kind in ("VOID", "CORRECTION") for _, kind, _ in steps)
    return kind, "CANCELLED_COMPENSATED" if is_undone else "PENDING"


def test_payments_in_every_status_are_sound(audited: LedgerUnderTest) -> None:
    statuses = {status for (status,) in audited.rows("SELECT status FROM payments")}
    assert statuses == {
        "RESERVED", "AUTHORIZED", "CAPTURED", "PARTLY_REFUNDED", "REFUNDED", "VOIDED", "FAILED", "DISPUTED",
    }  # fmt: skip
    assert found(audited) == set()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("payments-within-captured", "UPDATE payments SET refunded_minor = 61 WHERE status = 'PARTLY_REFUNDED'; "
         "UPDATE payments SET captured_minor = 60 WHERE status = 'PARTLY_REFUNDED'"),
        ("payments-are-entries", "UPDATE payments SET captured_minor = captured_minor - 1 WHERE status = 'CAPTURED'"),
        ("payments-are-entries", "UPDATE payments SET fee_minor = fee_minor + 1 WHERE status = 'CAPTURED'"),
        ("payments-are-entries", "UPDATE payments SET refunding_minor = 0 WHERE refunding_minor > 0"),
        ("payments-are-entries", "UPDATE payments SET disputed_minor = 0 WHERE disputed_minor > 0"),
        ("payment-status-is-its-money", "UPDATE payments SET status = 'CAPTURED' WHERE status = 'REFUNDED'"),
        ("payment-status-is-its-money", "UPDATE payments SET status = 'AUTHORIZED' WHERE status = 'VOIDED'"),
        ("payments-as-moved", "UPDATE payments SET status = 'VOIDED' WHERE status = 'FAILED'"),
        ("payments-committed-once", "UPDATE transfers SET step = 'post_reversal' WHERE step = 'commit_ledger' "
         "AND payment_status = 'CAPTURED'"),
        ("booked-by-steps", "DELETE FROM effects WHERE step = 'commit_ledger'"),
        ("booked-by-steps", "UPDATE effects SET state = 'DONE' WHERE step = 'reserve_balance' AND state = 'UNDONE'"),
        ("booked-by-steps", "UPDATE transfers SET reference = reference || 'x' WHERE step = 'capture_or_void'"),
    ],
)  # fmt: skip
def test_what_is_planted_is_found(audited: LedgerUnderTest, name: str, damage: str) -> None:
    assert name in found(audited, *damage.split("; "))


def test_what_is_held_when_no_saga_is_under_way_is_found(audited: LedgerUnderTest) -> None:
    assert "held-for-open-payments" in found(audited, are_under_way=False)
