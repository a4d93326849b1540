"""At rest, the tracker's database is emptied and rebuilt from the broker's logs, and compared with what it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text

from chassis.wire.codec import Codec
from proof.broker import Broker
from proof.checks import Violation
from proof.connections import ProcessConnection
from proof.databases import AS_JSON, TABLES, TRACKER, Database
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.decoding import topics
from saga_tracker.ingest.rebuilding import Rebuild, Rebuilt
from saga_tracker.ingest.records import Record
from saga_tracker.ingest.sent_messages import sent_topics
from saga_tracker.store import consumed_offsets

BATCH_MAX = 500
REBUILT = "a tracker rebuilt from Kafka has every saga as it was"
CONNECTION = 3
"""The number of the connection that rebuilds; no process uses it."""
ROWS = {
    "sagas": """
        SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, progress,
               CASE WHEN subject IS NOT NULL THEN started_at END AS started_at, finished_at
        FROM sagas
    """,
    "timeline": """
        SELECT saga_id, message_id, kind, type, service, step, attempt, causation_id, occurred_at, detail, topic,
               partition
        FROM timeline WHERE type <> 'Orphaned'
    """,
    "outbox": "SELECT aggregateid AS saga_id, type FROM outbox",
}
"""What is compared. That a saga without a valid deadline was found and repaired is not on Kafka; its facts are.

A saga whose starting event never came counts from whichever dead letter was read first.
"""
SNAPSHOT = text(f"SELECT json_build_object({', '.join(AS_JSON.format(*query) for query in ROWS.items())})")
EMPTY = [text(f"DELETE FROM {table}") for table in TABLES[TRACKER].tables]  # noqa: S608 - names of our own

Row = Mapping[str, Any]


def violations(database: Database, broker: Broker, codec: Codec, *, now: datetime) -> list[Violation]:
    """Rebuild the tracker's database. A saga that comes out differently, or is sent something again, is a violation."""
    found = _differences(database, broker, codec, now)
    return [Violation(invariant=REBUILT, saga_id=saga_id, says=says) for saga_id, says in found]


def _differences(database: Database, broker: Broker, codec: Codec, now: datetime) -> Iterator[tuple[str, str]]:
    connection = database.connection(TRACKER, CONNECTION)
    with connection.begin() as tx:
        was = tx.execute(SNAPSHOT).scalar_one()
        for statement in EMPTY:
            tx.execute(statement)
    _rebuild(connection, broker, codec, now)
    with connection.begin() as tx:
        found = tx.execute(SNAPSHOT).scalar_one()
    for row in found["outbox"]:
        yield row["saga_id"], f"a rebuild sends {row['type']} again"
    for table, key in (("sagas", "saga_id"), ("timeline", "message_id")):
        yield from _compared({row[key]: row for row in was[table]}, {row[key]: row for row in found[table]})


def _rebuild(connection: ProcessConnection, broker: Broker, codec: Codec, now: datetime) -> None:
    rebuild, read = Rebuild(DEFINITIONS, codec), {*topics(DEFINITIONS), *sent_topics(DEFINITIONS)}
    records = sorted((record for record in broker.all() if record.raw.topic in read), key=_time_of)
    with connection.begin() as tx:
        consumed_offsets.begin(tx, dict.fromkeys({record.topic_partition for record in records}, 0))
    for first in range(0, len(records), BATCH_MAX):
        with connection.begin() as tx:
            rebuild.record(tx, records[first : first + BATCH_MAX], now=now)
    after: str | None = ""
    while after is not None:
        with connection.begin() as tx:
            after = rebuild.conclude(tx, Rebuilt(), after=after, limit=BATCH_MAX, now=now)


def _time_of(record: Record) -> tuple[int, int]:
    """Return the time by which :mod:`saga_tracker.ingest.ordered_reading` orders; offsets keep their order."""
    return record.timestamp_ms, record.offset


def _compared(was: Mapping[str, Row], found: Mapping[str, Row]) -> Iterator[tuple[str, str]]:
    for key in was.keys() | found.keys():
        before, after = was.get(key), found.get(key)
        if before is None or after is None:
            row = before or after or {}
            yield row["saga_id"], f"{'lost' if after is None else 'new'} in a rebuild: {row}"
            continue
        for name, value in before.items():
            if after[name] != value:
                yield (
                    before["saga_id"],
                    f"{before.get('type', 'saga')}: {name} was {value!r}, is rebuilt as {after[name]!r}",
                )
