"""Gauges of the chassis' tables in a service's database: how many messages wait, and for how long."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, TextClause, text

from chassis.telemetry.metrics import QUERY_AGE_MAX_S, Measure

OUTBOX_ROWS = text("SELECT count(*) FROM outbox")
OUTBOX_AGE = text("SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM outbox")
DEFERRED = text("SELECT handler, count(*) FROM deferred WHERE due_at IS NOT NULL GROUP BY handler")
ORPHANS = text("SELECT count(*) FROM evidence WHERE match_at IS NOT NULL")
ORPHANS_AGE = text("""
    SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0) FROM evidence WHERE match_at IS NOT NULL
""")
PARKED = text("SELECT handler, count(*) FROM deferred WHERE due_at IS NULL GROUP BY handler")


def measure(
    name: str, documentation: str, labels: tuple[str, ...], query: TextClause, *, age_max_s: float = QUERY_AGE_MAX_S
) -> Measure:
    """Return a gauge of one statement, which returns a row for each combination of labels, the value last."""

    def rows(tx: Connection) -> Iterable[tuple[object, ...]]:
        return [tuple(row) for row in tx.execute(query)]

    return Measure(name=name, documentation=documentation, labels=labels, query=rows, age_max_s=age_max_s)


def overdue(query: TextClause) -> Measure:
    """Return the gauge of a service's started sagas. ``query`` returns each type, and how many are overdue."""
    return measure(
        "baraza_sagas_overdue",
        "Requests that are undecided for more than ten minutes in the service that starts their saga, by saga. Those "
        "whose saga is parked, or waits for an outcome that comes later, are included.",
        ("saga",),
        query,
    )


OUTBOX = (
    measure(
        "baraza_outbox_rows", "Committed messages in the outbox that are not known to be published.", (), OUTBOX_ROWS
    ),
    measure("baraza_outbox_age_seconds", "Age of the oldest message in the outbox.", (), OUTBOX_AGE),
)
WAITING = (
    measure(
        "baraza_deferred_messages",
        "Deferred messages that wait for their due time, by handler.",
        ("handler",),
        DEFERRED,
    ),
    measure(
        "baraza_held_messages",
        "Parked messages, which wait for a redrive or a fence, by handler.",
        ("handler",),
        PARKED,
    ),
)
EVIDENCE = (
    measure("baraza_evidence_orphans", "Pieces of evidence that match no attempt yet.", (), ORPHANS),
    measure(
        "baraza_evidence_orphans_oldest_seconds",
        "Since when the oldest piece of evidence matches no attempt.",
        (),
        ORPHANS_AGE,
    ),
)
"""Of a service with steps whose outcome comes later."""
