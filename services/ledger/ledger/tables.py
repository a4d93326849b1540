"""The ledger's tables and every statement on them; each takes a whole batch. Entries are only ever added."""

from __future__ import annotations

from collections.abc import Sequence

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

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from ledger.domain import Entry, EntryKind, Journal
from messages.ledger import ReverseLedger
from messages.payment import PaymentCaptured

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

COLUMNS = Columns.of(entries, sources={"kind": "kind.value"})

FIND_POSTED = Statement(f"""
    SELECT {COLUMNS.without("kind").names} FROM entries
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND kind = 'POST' ORDER BY saga_id, account
""")

ADD = Statement(f"""
    INSERT INTO entries ({COLUMNS.names})
    SELECT {COLUMNS.values}
    FROM {COLUMNS.rows}
""")

IMBALANCE = text("SELECT currency, sum(debit_minor) - sum(credit_minor) FROM entries GROUP BY currency")


def load_nothing(_events: Sequence[PaymentCaptured], _tx: Connection) -> Journal:
    """Return no entries: a posting needs none. The effects table lets it happen once."""
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
    """Insert the batch's entries in one statement."""
    if journal.added:
        ADD.run(tx, COLUMNS.parameters(sorted(journal.added, key=lambda each: each.saga_id)))
