"""Fills the tracker's tables alone: sagas by the million, with the counts that belong to them, and long timelines.

They are copies of a real saga that ended, under ids and times of their own. No service knows them, so a stack with
them is not audited; the tracker's own comparison of its counts with its sagas is run instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from sqlalchemy import Engine, create_engine

from baraza.bench.orders import CUSTOMERS
from baraza.bench.owner import OWNER, owner_connection
from baraza.system.running import Running
from baraza.terminal import Refusal, notify
from chassis.postgres.bounds import MIGRATING
from chassis.postgres.database import prepare
from chassis.wire.envelope import new_id
from saga_tracker.store import rollups

TRACKER: Final = "saga-tracker"
ROWS_OF_A_BATCH: Final = 250_000
"""Each batch is one transaction of some seconds; a checkpoint comes between two of them where it must."""
DAYS: Final = 90
"""The copies began within so many days."""
PER_THOUSAND: Final = {"CANCELLED_COMPENSATED": 58, "NEEDS_REVIEW": 1, "IN_DOUBT": 1}
"""How many of a thousand are in these states; the others are confirmed."""
EVERY_STATE: Final = (*rollups.LIVE, *rollups.ENDED)

ORIGINAL: Final = """
    SELECT sagas.saga_id, count(*) AS entries
    FROM sagas JOIN timeline USING (saga_id)
    WHERE state = 'CONFIRMED' AND saga_type = 'order' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1
"""
COPY: Final = """
    INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition,
                       progress, version, started_at, updated_at, finished_at, parked_at, awaits_since)
    SELECT lpad(number::text, 26, '0'), saga_type, saga_version, 'bench-' || number %% %(customers)s, made.state, phase,
           (CAST(%(steps)s AS text[]))[(1 + number %% cardinality(CAST(%(steps)s AS text[])))::int],
           CASE made.state WHEN 'CONFIRMED' THEN NULL WHEN 'NEEDS_REVIEW' THEN 'EXHAUSTED' ELSE 'REJECTED' END,
           CASE made.state WHEN 'CONFIRMED' THEN NULL ELSE 'reason ' || number %% 20 END,
           number %% %(partitions)s, progress, version, made.started_at, made.started_at + interval '1 second',
           CASE WHEN made.state IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
                THEN made.started_at + interval '2 seconds' * random() END,
           CASE made.state WHEN 'NEEDS_REVIEW' THEN made.started_at + interval '1 minute' END,
           CASE made.state WHEN 'IN_DOUBT' THEN made.started_at + interval '1 second' END
    FROM sagas AS original, generate_series(%(first)s::bigint, %(last)s::bigint) AS number
    CROSS JOIN LATERAL (
        SELECT now() - interval '1 hour' - %(days)s * interval '1 day' * number / %(total)s AS started_at,
               CASE WHEN number %% 1000 < %(undone)s THEN 'CANCELLED_COMPENSATED'
                    WHEN number %% 1000 < %(undone)s + %(parked)s THEN 'NEEDS_REVIEW'
                    WHEN number %% 1000 < %(undone)s + %(parked)s + %(doubt)s THEN 'IN_DOUBT'
                    ELSE 'CONFIRMED' END AS state
    ) AS made
    WHERE original.saga_id = %(original)s
"""

OWN_ID: Final[Mapping[str, LiteralString]] = {"saga_id": "%(saga_id)s"}
REPEATED: Final[Mapping[str, LiteralString]] = {
    **OWN_ID,
    "message_id": "original.message_id || '-' || copy.number",
    "causation_id": "original.causation_id || '-' || copy.number",
    "occurred_at": "original.occurred_at + copy.number * interval '500 milliseconds'",
}
"""Columns of a copied entry that are its own. An order takes about as long, so copies have few gaps between them."""
FIRST_ENTRIES: Final[LiteralString] = "ORDER BY copy.number, original.seq LIMIT %(limit)s"


def fill(stack: Running, total: int) -> None:
    """Add sagas until there are ``total``, count them all, and let PostgreSQL vacuum and analyse. Nothing may move.

    Raises Refusal where no order has ended.
    """
    original, _ = _original(stack)
    partitions = int(str(stack.stack.layout()["partitions"]))
    with owner_connection(stack, TRACKER) as connection:
        have = _number(connection, "SELECT count(*) FROM sagas")
        steps = _rows(connection, "SELECT DISTINCT step FROM timeline WHERE step IS NOT NULL ORDER BY 1")
        values: dict[str, Any] = {
            "original": original, "customers": CUSTOMERS, "steps": [step for (step,) in steps], "days": DAYS,
            "partitions": partitions, "total": max(1, total), "undone": PER_THOUSAND["CANCELLED_COMPENSATED"],
            "parked": PER_THOUSAND["NEEDS_REVIEW"], "doubt": PER_THOUSAND["IN_DOUBT"],
        }  # fmt: skip
        for first in range(have + 1, total + 1, ROWS_OF_A_BATCH):
            last = min(total, first + ROWS_OF_A_BATCH - 1)
            connection.execute(COPY, {**values, "first": first, "last": last})
            connection.commit()
            notify(f"{last} of {total} sagas are in the tracker's tables.")
    count_again(stack)
    with owner_connection(stack, TRACKER) as connection:
        connection.autocommit = True
        for table in ("sagas", "rollups", "timeline"):
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


def count_again(stack: Running) -> None:
    """Replace the tracker's counts by a count of all sagas. Nothing may move meanwhile."""
    with _engine(stack) as engine, engine.begin() as tx:
        rollups.count_again(tx, range(int(str(stack.stack.layout()["partitions"]))), EVERY_STATE)


def differences(stack: Running) -> list[rollups.Difference]:
    """Return where the tracker's counts differ from a count of its sagas. Nothing may move meanwhile."""
    with _engine(stack) as engine, engine.connect() as tx:
        return rollups.differences(tx, range(int(str(stack.stack.layout()["partitions"]))))


def make_timeline(stack: Running, entries: int) -> str:
    """Make a saga with so many entries, those of a real order again and again, and return its id.

    Raises Refusal where no order has ended.
    """
    original, own = _original(stack)
    saga_id = new_id()
    values = {"saga_id": saga_id, "original": original, "last": entries // own, "limit": entries}
    with owner_connection(stack, TRACKER) as connection:
        _copy(connection, "sagas", OWN_ID, "", {**values, "last": 0})
        _copy(connection, "timeline", REPEATED, FIRST_ENTRIES, values)
        made = _number(connection, "SELECT count(*) FROM timeline WHERE saga_id = %(saga_id)s", values)
    if made != entries:
        raise Refusal(f"A timeline of {entries} entries was to be made, and it has {made}. It is a defect.")
    return saga_id


def _copy(
    connection: psycopg.Connection,
    table: str,
    changed: Mapping[str, LiteralString],
    order: LiteralString,
    values: dict[str, Any],
) -> None:
    """Copy the rows of the original saga, with these columns computed anew."""
    columns = [
        str(name)
        for (name,) in _rows(
            connection,
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %(table)s AND is_identity = 'NO'",
            {"table": table},
        )
    ]
    chosen = [
        sql.SQL(changed[name]) if name in changed else sql.SQL("original.{}").format(sql.Identifier(name))
        for name in columns
    ]
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {chosen} FROM {table} AS original,"
        " generate_series(0, %(last)s::int) AS copy (number) WHERE original.saga_id = %(original)s {order}"
    )
    connection.execute(
        statement.format(
            table=sql.Identifier(table),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            chosen=sql.SQL(", ").join(chosen),
            order=sql.SQL(order),
        ),
        values,
    )


def _original(stack: Running) -> tuple[str, int]:
    """Return the id of a confirmed order with the most entries, and how many. Raises Refusal where there is none."""
    with owner_connection(stack, TRACKER) as connection:
        rows = _rows(connection, ORIGINAL)
    if not rows:
        raise Refusal("No order has ended as confirmed, so there is none to copy; see the logs of the services.")
    ((saga_id, entries),) = rows
    return str(saga_id), int(entries)


@contextmanager
def _engine(stack: Running) -> Iterator[Engine]:
    url = stack.stack.database_url(TRACKER, OWNER).replace("postgresql:", "postgresql+psycopg:")
    engine = prepare(create_engine(url, connect_args=MIGRATING.arguments))
    try:
        yield engine
    finally:
        engine.dispose()


def _rows(connection: psycopg.Connection, query: Any, values: dict[str, Any] | None = None) -> list[Any]:
    return connection.execute(query, values).fetchall()


def _number(connection: psycopg.Connection, query: Any, values: dict[str, Any] | None = None) -> int:
    ((found,),) = _rows(connection, query, values)
    return int(found)
