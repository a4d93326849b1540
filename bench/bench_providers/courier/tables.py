"""The courier's records in shipping's database, and every statement on them; each takes a whole batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Column, Connection, MetaData, Table, Text

from chassis.postgres.statement import Statement

metadata = MetaData()
courier_records = Table(
    "courier_records",
    metadata,
    Column("id", Text, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("state", Text, nullable=False),
    comment="what the benchmark's courier inside of the process has done",
)

ADD_BOOKED = Statement("""
    INSERT INTO courier_records (id, reference, state)
    SELECT id, reference, 'live'
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(references)s AS text[])) AS row (id, reference)
""")

RECORD_CANCELLED = Statement("UPDATE courier_records SET state = 'cancelled' WHERE id = ANY(CAST(%(ids)s AS text[]))")


@dataclass(slots=True)
class CourierRecords:
    """What a batch adds to the courier's records, by tracking number."""

    booked: list[tuple[str, str]] = field(default_factory=list)
    """Each with the saga id."""
    cancelled: list[str] = field(default_factory=list)


def save_courier_records(records: CourierRecords, tx: Connection) -> None:
    """Save what a batch added, in one statement a kind."""
    if records.booked:
        ids, references = zip(*records.booked, strict=True)
        ADD_BOOKED.run(tx, {"ids": list(ids), "references": list(references)})
    if records.cancelled:
        RECORD_CANCELLED.run(tx, {"ids": records.cancelled})
