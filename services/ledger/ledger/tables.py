"""The ledger's tables and every statement on them; each takes a whole batch. Entries are only ever added."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from messages.ledger import ReverseLedger
from messages.payment import PaymentCaptured
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Table,
    Text,
    text,
)

from ledger.domain import Entry, EntryKind, Journal

metadata = service_metadata()
entries = Table(
    "entries",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("debit_minor", BigInteger, CheckConstraint("debit_minor >= 0"), nullable=False),
    Column("credit_minor", BigInteger, CheckConstraint("credit_minor >= 0"), nullable=False),
    Column("currency", Text, nullable=False),
    Column("posted_at", DateTime(timezone=True), nullable=False),
)

FIND_POSTED = Statement("""
    SELECT saga_id, account, debit_minor, credit_minor, currency, posted_at FROM entries
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND kind = 'POST' ORDER BY saga_id, account
""")

ADD = Statement("""
    INSERT INTO entries (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)
    SELECT saga_id, kind, account, debit_minor, credit_minor, currency, posted_at
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(kinds)s AS text[]), CAST(%(accounts)s AS text[]),
                CAST(%(debits)s AS bigint[]), CAST(%(credits)s AS bigint[]), CAST(%(currencies)s AS text[]),
                CAST(%(times)s AS timestamptz[]))
        AS row (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)
""")


IMBALANCE = text("SELECT currency, sum(debit_minor) - sum(credit_minor) FROM entries GROUP BY currency")


def load_nothing(_events: Sequence[PaymentCaptured], _tx: Connection) -> Journal:
    """A posting needs no look at what stands already: the fence lets it happen once."""
    return Journal()


def load_posted(commands: Sequence[ReverseLedger], tx: Connection) -> Journal:
    """Load the entries that these sagas posted."""
    journal = Journal()
    for row in FIND_POSTED.rows(tx, {"saga_ids": [command.saga_id for command in commands]}):
        journal.posted.setdefault(row.saga_id, []).append(
            Entry(
                saga_id=row.saga_id,
                kind=EntryKind.POST,
                account=row.account,
                debit_minor=row.debit_minor,
                credit_minor=row.credit_minor,
                currency=row.currency,
                posted_at=row.posted_at,
            )
        )
    return journal


def save_journal(journal: Journal, tx: Connection) -> None:
    """Add the batch's entries in one statement."""
    if not journal.added:
        return
    ADD.run(
        tx,
        {
            "saga_ids": [entry.saga_id for entry in journal.added],
            "kinds": [entry.kind.value for entry in journal.added],
            "accounts": [entry.account for entry in journal.added],
            "debits": [entry.debit_minor for entry in journal.added],
            "credits": [entry.credit_minor for entry in journal.added],
            "currencies": [entry.currency for entry in journal.added],
            "times": [entry.posted_at for entry in journal.added],
        },
    )
