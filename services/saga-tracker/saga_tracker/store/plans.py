"""The tables of plans and of the operators' log: the sagas of an act, each frozen with its version, and the outcomes.

``http.previews`` makes a plan, ``http.operator_api`` serves it, and ``ingest.operator_acts`` applies it from here. A
plan is made once, applied once, and never extended. After a crash the next worker continues where the last transaction
ended.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from saga_tracker.model.facts import Resolution
from saga_tracker.store.schema import OPERATOR_LOG, PLAN_ITEMS, PLANS


class ActKind(enum.StrEnum):
    """What an operator can do with sagas."""

    REDRIVE = "REDRIVE"
    COMPENSATE = "COMPENSATE"
    ANNOTATE = "ANNOTATE"
    SETTLE = "SETTLE"
    RESOLVE_COMPENSATED = "RESOLVE_COMPENSATED"
    RESOLVE_CONFIRMED = "RESOLVE_CONFIRMED"

    @property
    def resolution(self) -> Resolution | None:
        """How the act resolves contradictory facts; None for another act. It needs two people."""
        return {"RESOLVE_COMPENSATED": Resolution.COMPENSATED, "RESOLVE_CONFIRMED": Resolution.CONFIRMED}.get(self)


class PlanState(enum.StrEnum):
    """The state of a plan."""

    PLANNED = "PLANNED"
    APPLYING = "APPLYING"
    APPLIED = "APPLIED"


class ItemState(enum.StrEnum):
    """The state of one saga of a plan."""

    PLANNED = "PLANNED"
    NOT_RUNNABLE = "NOT_RUNNABLE"
    """No act was possible when it was planned; ``detail`` is the reason."""
    DONE = "DONE"
    CHANGED = "CHANGED"
    """Passed over: it has changed since it was planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One saga of a plan. ``runs`` lists the commands to be sent, ``revision`` is its version when it was planned."""

    saga_id: str
    partition: int
    revision: int
    step: str
    runs: str | None
    state: str
    detail: str | None = None
    done_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan, with the number of its sagas by state."""

    plan_id: str
    act: str
    selection: Mapping[str, Any]
    state: str
    planned_by: str
    planned_at: datetime
    applied_by: str | None
    reason: str | None
    applied_at: datetime | None
    finished_at: datetime | None
    rate_per_s: int | None
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One act of an operator; it is never changed. ``saga_id`` is None where it concerned several sagas."""

    act_id: str
    at: datetime
    actor: str
    act: str
    reason: str
    saga_id: str | None = None
    plan_id: str | None = None
    detail: str | None = None


PLAN_COLUMNS = Columns.of(PLANS, without=["next_at"], parameter=SQLALCHEMY)
ITEM_COLUMNS = Columns.of(PLAN_ITEMS, without=["plan_id"], parameter=SQLALCHEMY)
LOG_COLUMNS = Columns.of(OPERATOR_LOG, without=["seq"], parameter=SQLALCHEMY)

INSERT_PLAN = text("""
    INSERT INTO plans (plan_id, act, selection, state, planned_by, planned_at)
    VALUES (:plan_id, :act, CAST(:selection AS jsonb), 'PLANNED', :planned_by, :planned_at)
""")

INSERT_ITEMS = text(f"""
    INSERT INTO plan_items (plan_id, {ITEM_COLUMNS.names})
    SELECT :plan_id, {ITEM_COLUMNS.values}
    FROM {ITEM_COLUMNS.rows}
""")

APPLY = text("""
    UPDATE plans
    SET state = CASE WHEN EXISTS (SELECT FROM plan_items AS item
                                  WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED')
                     THEN 'APPLYING' ELSE 'APPLIED' END,
        finished_at = CASE WHEN EXISTS (SELECT FROM plan_items AS item
                                        WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED')
                           THEN NULL ELSE CAST(:now AS timestamptz) END,
        applied_by = :applied_by, reason = :reason, applied_at = :now, next_at = :now, rate_per_s = :rate_per_s
    WHERE plan_id = :plan_id AND state = 'PLANNED'
      AND (act NOT LIKE 'RESOLVE%' OR planned_by <> :applied_by)
""")
"""A resolution is applied by another person than the one who planned it."""

_PLAN = f"""
    SELECT {PLAN_COLUMNS.names},
           coalesce((SELECT jsonb_object_agg(item.state, item.count)
                     FROM (SELECT state, count(*) FROM plan_items WHERE plan_id = plans.plan_id GROUP BY state) AS item
                    ), '{{}}') AS counts
    FROM plans
"""
ONE_PLAN = text(_PLAN + "WHERE plan_id = :plan_id")
LATEST_PLANS = text(_PLAN + "ORDER BY planned_at DESC LIMIT :limit")

ITEMS = text(f"""
    SELECT {ITEM_COLUMNS.names}
    FROM plan_items
    WHERE plan_id = :plan_id AND saga_id > :after
      AND (CAST(:state AS text) IS NULL OR state = :state)
    ORDER BY saga_id
    LIMIT :limit
""")

LOCK_PLAN = text("""
    SELECT plan_id, act, reason, planned_by, applied_by, rate_per_s
    FROM plans
    WHERE state = 'APPLYING' AND next_at <= :now AND act = ANY(CAST(:acts AS text[]))
      AND EXISTS (SELECT FROM plan_items AS item
                  WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED'
                    AND item.partition = ANY(CAST(:partitions AS smallint[])))
    ORDER BY applied_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
""")

NEXT_ITEMS = text(f"""
    SELECT {ITEM_COLUMNS.without("detail", "done_at").names}
    FROM plan_items
    WHERE plan_id = :plan_id AND state = 'PLANNED' AND partition = ANY(CAST(:partitions AS smallint[]))
    ORDER BY saga_id
    LIMIT :limit
""")

FINISH_ITEMS = text("""
    UPDATE plan_items
    SET state = row.state, detail = row.detail, done_at = :now
    FROM unnest(CAST(:saga_ids AS text[]), CAST(:states AS text[]), CAST(:details AS text[]))
         AS row (saga_id, state, detail)
    WHERE plan_items.plan_id = :plan_id AND plan_items.saga_id = row.saga_id
""")

MOVE_PLAN = text("""
    UPDATE plans SET next_at = :next_at WHERE plan_id = :plan_id
""")

FINISH_PLAN = text("""
    UPDATE plans SET state = 'APPLIED', finished_at = :now
    WHERE plan_id = :plan_id
      AND NOT EXISTS (SELECT FROM plan_items AS item WHERE item.plan_id = :plan_id AND item.state = 'PLANNED')
""")

LOG = text(f"""
    INSERT INTO operator_log ({LOG_COLUMNS.names})
    SELECT {LOG_COLUMNS.values}
    FROM {LOG_COLUMNS.rows}
    ON CONFLICT DO NOTHING
""")

LOGGED = text(f"""
    SELECT {LOG_COLUMNS.names}
    FROM operator_log
    WHERE (CAST(:saga_id AS text) IS NULL OR saga_id = :saga_id)
      AND (CAST(:plan_id AS text) IS NULL OR plan_id = :plan_id)
    ORDER BY seq DESC
    LIMIT :limit
""")


def insert(tx: Connection, plan_id: str, act: ActKind, selection: Mapping[str, Any], *, by: str, at: datetime) -> None:
    """Store a new plan; :func:`insert_items` adds its sagas."""
    values = {"plan_id": plan_id, "act": act.value, "selection": json.dumps(selection), "planned_by": by}
    tx.execute(INSERT_PLAN, {**values, "planned_at": at})


def insert_items(tx: Connection, plan_id: str, items: Sequence[Item]) -> None:
    """Add sagas to a plan that is being made, in one statement."""
    if items:
        tx.execute(INSERT_ITEMS, ITEM_COLUMNS.parameters(items) | {"plan_id": plan_id})


def apply(tx: Connection, plan_id: str, *, by: str, reason: str, rate_per_s: int, now: datetime) -> bool:
    """Let the worker apply a plan. Return False where it was applied before, and leave it as it is."""
    values = {"plan_id": plan_id, "applied_by": by, "reason": reason, "rate_per_s": rate_per_s, "now": now}
    return tx.execute(APPLY, values).rowcount == 1


def find(tx: Connection, plan_id: str) -> Plan | None:
    """Return a plan, or None where none has that id."""
    row = tx.execute(ONE_PLAN, {"plan_id": plan_id}).first()
    return None if row is None else Plan(**row._mapping)


def latest(tx: Connection, *, limit: int) -> list[Plan]:
    """Return the latest plans, the newest first."""
    return [Plan(**row._mapping) for row in tx.execute(LATEST_PLANS, {"limit": limit})]


def items(tx: Connection, plan_id: str, *, after: str, state: str | None, limit: int) -> list[Item]:
    """Return the sagas of a plan whose ids come after ``after``, in the order of their ids."""
    rows = tx.execute(ITEMS, {"plan_id": plan_id, "after": after, "state": state, "limit": limit})
    return [Item(**row._mapping) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPlan:
    """A plan that the worker has locked to apply its next sagas."""

    plan_id: str
    act: ActKind
    reason: str
    planned_by: str
    applied_by: str
    rate_per_s: int


def lock(tx: Connection, partitions: Collection[int], *, now: datetime) -> LockedPlan | None:
    """Lock a plan that has sagas left in these partitions and whose rate lets it continue; None where there is none.

    A plan of an act that this release lacks is left to a later one.
    """
    values = {"partitions": list(partitions), "now": now, "acts": [act.value for act in ActKind]}
    row = tx.execute(LOCK_PLAN, values).first()
    return None if row is None else LockedPlan(**{**row._mapping, "act": ActKind(row.act)})


def next_items(tx: Connection, plan_id: str, partitions: Collection[int], *, limit: int) -> list[Item]:
    """Return the next sagas of a locked plan."""
    rows = tx.execute(NEXT_ITEMS, {"plan_id": plan_id, "partitions": list(partitions), "limit": limit})
    return [Item(**row._mapping) for row in rows]


def finish_items(
    tx: Connection,
    plan_id: str,
    results: Mapping[str, tuple[ItemState, str | None]],
    *,
    next_at: datetime,
    now: datetime,
) -> None:
    """Store the outcome of these sagas and when the plan continues. The plan is applied when no saga is left."""
    tx.execute(
        FINISH_ITEMS,
        {
            "plan_id": plan_id,
            "saga_ids": list(results),
            "states": [state.value for state, _ in results.values()],
            "details": [detail for _, detail in results.values()],
            "now": now,
        },
    )
    tx.execute(MOVE_PLAN, {"plan_id": plan_id, "next_at": next_at})
    tx.execute(FINISH_PLAN, {"plan_id": plan_id, "now": now})


def log(tx: Connection, entries: Sequence[LogEntry]) -> None:
    """Add to the operators' log, in one statement; an act that is in it already is passed over."""
    if entries:
        tx.execute(LOG, LOG_COLUMNS.parameters(entries))


def logged(tx: Connection, *, saga_id: str | None, plan_id: str | None, limit: int) -> list[LogEntry]:
    """Return the operators' log, the latest act first."""
    rows = tx.execute(LOGGED, {"saga_id": saga_id, "plan_id": plan_id, "limit": limit})
    return [LogEntry(**row._mapping) for row in rows]
