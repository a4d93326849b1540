"""The transactional outbox: messages are rows of the business transaction, and are published after it.

The process that committed publishes at once (``publisher.py``) and removes the rows in a later transaction. A process
that is assigned a partition first publishes the leftovers of that partition. The columns are Debezium's: its router
can replace the relay. It must never read by ``id > last seen``: a sequence is not commit order.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.wire.envelope import Headers

LEFTOVERS_MAX = 5_000
"""Rows read by one sweep; the next sweep reads on."""
_quoted = json.encoder.encode_basestring_ascii


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One message to be published. ``partition`` is None where the producer chooses it by the key.

    ``cause`` are the headers of the message that caused it, for observers. They are not stored: None in a row that was
    read back.
    """

    id: str
    topic: str
    saga_id: str
    type: str
    payload: bytes
    headers: Headers
    partition: int | None
    cause: Headers | None = None


def outbox_table(metadata: MetaData) -> Table:
    """Return the outbox of a service's database."""
    return Table(
        "outbox",
        metadata,
        Column("id", Text, primary_key=True),
        Column("seq", BigInteger, Identity(always=True), nullable=False),
        Column("aggregatetype", Text, nullable=False, comment="the topic"),
        Column("aggregateid", Text, nullable=False, comment="the saga id, which is the key"),
        Column("type", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("headers", Text, nullable=False, comment="JSON pairs, bytes read as latin-1"),
        Column("partition", SmallInteger),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )


def headers_to_text(headers: Headers) -> str:
    """Return headers as JSON; bytes are read as latin-1, so that every byte survives."""
    pairs = [f"[{_quoted(key)},{_quoted(value.decode('latin-1'))}]" for key, value in headers]
    return f"[{','.join(pairs)}]"


def headers_from_text(value: str) -> Headers:
    """Return what :func:`headers_to_text` was given."""
    return tuple((key, part.encode("latin-1")) for key, part in json.loads(value))


COLUMNS = Columns.of(
    outbox_table(MetaData()),
    without=["seq", "created_at"],
    sources={
        "aggregatetype": "topic",
        "aggregateid": "saga_id",
        "headers": lambda row: headers_to_text(row.headers),
    },
)

SAVE = Statement(f"""
    INSERT INTO outbox ({COLUMNS.names})
    SELECT {COLUMNS.values}
    FROM {COLUMNS.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT (id) DO NOTHING
""")

REMOVE = Statement("DELETE FROM outbox WHERE id = ANY(CAST(%(ids)s AS text[]))")

STORED = Statement("SELECT id FROM outbox WHERE id = ANY(CAST(%(ids)s AS text[]))")

LEFTOVERS = Statement(f"""
    SELECT {COLUMNS.names}
    FROM outbox
    WHERE (CAST(%(partitions)s AS smallint[]) IS NULL OR partition = ANY(CAST(%(partitions)s AS smallint[])))
      AND created_at <= now() - CAST(%(age)s AS interval)
    ORDER BY seq
    LIMIT %(limit)s
""")


def stored(tx: Connection, ids: Collection[str]) -> set[str]:
    """Return which of these rows are in the outbox: those that Kafka may not have acknowledged yet."""
    return {row.id for row in STORED.rows(tx, {"ids": sorted(ids)})}


def save(tx: Connection, rows: Sequence[OutboxRow]) -> None:
    """Write the rows into the outbox of this transaction, in one statement.

    A row that is in it already is passed over: the answer to a command has one id, however often the command comes.
    """
    if rows:
        SAVE.run(tx, COLUMNS.parameters(rows))


def remove(tx: Connection, ids: Sequence[str]) -> None:
    """Remove delivered rows in this transaction."""
    if ids:
        REMOVE.run(tx, {"ids": list(ids)})


def leftovers(tx: Connection, partitions: Collection[int] | None, *, age: timedelta) -> list[OutboxRow]:
    """Return rows older than ``age`` in the order of their sequence; None for ``partitions`` means all of them."""
    rows = LEFTOVERS.rows(
        tx,
        {"partitions": None if partitions is None else list(partitions), "age": age, "limit": LEFTOVERS_MAX},
    )
    return [
        OutboxRow(
            id=row.id,
            topic=row.aggregatetype,
            saga_id=row.aggregateid,
            type=row.type,
            payload=bytes(row.payload),
            headers=headers_from_text(row.headers),
            partition=row.partition,
        )
        for row in rows
    ]
