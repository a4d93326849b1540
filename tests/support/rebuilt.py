"""What a rebuilt database of the tracker must have in common with the one that it replaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from chassis.postgres import migrations
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.rebuild import run
from stack import Stack, contract
from support.postgres import scratch_database
from support.registries import codec_of

SAGAS: LiteralString = """
    SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, progress, waiting,
           CASE WHEN subject IS NOT NULL THEN started_at END AS started_at, finished_at,
           contradicted_at, settled_at, settled_by
    FROM sagas
"""
TIMELINES: LiteralString = """
    SELECT saga_id, message_id, kind, type, service, step, attempt, causation_id, occurred_at, detail, topic, partition
    FROM timeline
    WHERE type NOT IN ('CloseDeadLetter', 'Orphaned')
"""
ACTS: LiteralString = """
    SELECT act_id, at, actor, act, reason, saga_id, plan_id, detail FROM operator_log
    WHERE act NOT IN ('APPLY_PLAN', 'CLOSE', 'PROPOSE')
"""
LETTERS: LiteralString = (
    'SELECT topic, partition, "offset", letter_id, saga_id, step, reason, redrive FROM dead_letters'
)
KEYS: Mapping[LiteralString, tuple[str, ...]] = {
    SAGAS: ("saga_id",),
    TIMELINES: ("saga_id", "message_id"),
    ACTS: ("act_id",),
    LETTERS: ("topic", "partition", "offset"),
}
Rows = Mapping[tuple[Any, ...], Mapping[str, Any]]


def snapshot(url: str, saga_id: str | None = None) -> dict[LiteralString, Rows]:
    """Return everything that is compared, of one saga or of all, by its query."""
    return {query: rows(url, query, saga_id) for query in KEYS}


def rows(url: str, query: LiteralString, saga_id: str | None = None) -> Rows:
    """Return the rows of a query by their key."""
    with psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:"), row_factory=dict_row) as tx:
        found = [row for row in tx.execute(query) if saga_id in (None, row["saga_id"])]
    return {tuple(row[name] for name in KEYS[query]): row for row in found}


def differences(was: Rows, now: Rows) -> list[str]:
    """Return a line for each row that is missing, new or another."""
    found = [f"{key}: missing" for key in was.keys() - now.keys()]
    found += [f"{key}: new: {now[key]}" for key in now.keys() - was.keys()]
    for key in was.keys() & now.keys():
        for name, value in was[key].items():
            if now[key][name] != value:
                found.append(f"{key}: {name} was {value!r}, is {now[key][name]!r}")
    return found


def differences_after_a_rebuild(
    stack: Stack, was: Mapping[LiteralString, Rows], saga_id: str | None = None
) -> list[str]:
    """Rebuild the tracker's database from Kafka in an empty one beside it, and compare the two: one saga or all.

    A message that the rebuild would send is a difference: nothing must be sent that was sent before.
    """
    with scratch_database(stack) as engine, codec_of(stack) as codec:
        migrations.upgrade("saga_tracker", engine)
        rebuilt = run(engine, stack.kafka(contract.TRACKER), codec, DEFINITIONS)
        url = engine.url.render_as_string(hide_password=False)
        found = [line for query, before in was.items() for line in differences(before, rows(url, query, saga_id))]
        with engine.connect() as tx:
            sent = tx.exec_driver_sql("SELECT aggregateid, type FROM outbox").all()
    found += [f"{type_} is sent again" for each, type_ in sent if saga_id in (None, each)]
    return [*found, *(f"{each} ended otherwise than its messages say" for each in rebuilt.different
                      if saga_id in (None, each))]  # fmt: skip
