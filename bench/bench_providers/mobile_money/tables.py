"""The provider's own books in mobile-money's database, and the statement on them, which takes a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, DateTime, Identity, MetaData, Table, Text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement

PAY_IN, PAY_OUT, REFUSAL, QUESTION = "pay_in", "pay_out", "refusal", "question"
"""The kinds of entries, the first two named as the simulators name theirs. The others have no amount."""

metadata = MetaData()
money_entries = Table(
    "money_entries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("provider", Text, nullable=False),
    Column("short_code", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False, comment="what it adds to the utility account"),
    Column("own_id", Text, comment="null: it came in"),
    Column("at", DateTime(timezone=True), nullable=False),
    comment="what the benchmark's provider of mobile money has done",
)
ENTRY = Columns.of(money_entries, without=["id"])

ADD_ENTRIES: Final = Statement(f"""
    INSERT INTO money_entries ({ENTRY.names})
    SELECT {ENTRY.values} FROM {ENTRY.rows}
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the provider did at one moment."""

    provider: str
    short_code: str
    receipt: str
    kind: str
    amount_minor: int
    own_id: str | None
    at: datetime


def add_entries(tx: Connection, entries: Sequence[Entry]) -> None:
    """Enter what the provider did. One that is paid twice is there twice."""
    if entries:
        ADD_ENTRIES.run(tx, ENTRY.parameters(entries))
