"""The tables of plans: the sagas of an act, each frozen with its version, and the outcomes.

``http.previews`` makes a plan, ``http.operator_api`` serves it, and ``ingest.operator_acts`` applies it from here. A
plan is made once, applied once, and never extended. After a crash the next worker continues where the last transaction
ended. PLANNED, and approved where it needs that, it becomes APPLYING, and APPLIED in the end. Under way it can be
PAUSED and go on, and until the end be STOPPED for good. ``store.operator_log`` has who did what.
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
from saga_tracker.store.schema import ANOTHER, PLAN_ITEMS, PLANS


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
    PAUSED = "PAUSED"
    """Under way, and nothing more is sent until it is resumed."""
    APPLIED = "APPLIED"
    STOPPED = "STOPPED"
    """For good; what was not sent until then never is."""


class ItemState(enum.StrEnum):
    """The state of one saga of a plan."""

    PLANNED = "PLANNED"
    NOT_RUNNABLE = "NOT_RUNNABLE"
    """No act was possible when it was planned; ``detail`` is the reason."""
    DONE = "DONE"
    CHANGED = "CHANGED"
    """Passed over: it has changed since it was planned."""
    STOPPED = "STOPPED"
    """Its plan was stopped before."""


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
    """A plan, with the number of its sagas by state.

    If it ``needs_approval``, another person than ``planned_by`` approves it before it is applied.
    """

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
    needs_approval: bool
    approved_by: str | None
    approved_at: datetime | None
    approval_reason: str | None
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Sagas of a plan for which the same would be sent, or nothing for the same reason. ``example`` is one of them."""

    state: str
    runs: str | None
    detail: str | None
    count: int
    example: str


PLAN_COLUMNS = Columns.of(PLANS, without=["next_at"], parameter=SQLALCHEMY)
ITEM_COLUMNS = Columns.of(PLAN_ITEMS, without=["plan_id"], parameter=SQLALCHEMY)

INSERT_PLAN = text("""
    INSERT INTO plans (plan_id, act, selection, state, planned_by, planned_at, needs_approval)
    VALUES (:plan_id, :act, CAST(:selection AS jsonb), 'PLANNED', :planned_by, :planned_at, :needs_approval)
""")

INSERT_ITEMS = text(f"""
    INSERT INTO plan_items (plan_id, {ITEM_COLUMNS.names})
    SELECT :plan_id, {ITEM_COLUMNS.values}
    FROM {ITEM_COLUMNS.rows}
""")

APPLY = text(f"""
    UPDATE plans
    SET state = CASE WHEN EXISTS (SELECT FROM plan_items AS item
                                  WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED')
                     THEN 'APPLYING' ELSE 'APPLIED' END,
        finished_at = CASE WHEN EXISTS (SELECT FROM plan_items AS item
                                        WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED')
                           THEN NULL ELSE CAST(:now AS timestamptz) END,
        applied_by = :applied_by, reason = :reason, applied_at = :now, next_at = :now, rate_per_s = :rate_per_s
    WHERE plan_id = :plan_id AND state = 'PLANNED'
      AND (act NOT LIKE 'RESOLVE%' OR {ANOTHER.format(":applied_by")})
      AND (NOT needs_approval OR approved_by IS NOT NULL)
""")
"""A resolution is applied by another person than the one who planned it."""

APPROVE = text(f"""
    UPDATE plans
    SET approved_by = :by, approved_at = :now, approval_reason = :reason
    WHERE plan_id = :plan_id AND state = 'PLANNED' AND needs_approval AND approved_by IS NULL
      AND {ANOTHER.format(":by")}
""")

PAUSE = text("UPDATE plans SET state = 'PAUSED' WHERE plan_id = :plan_id AND state = 'APPLYING'")
"""It waits for the part that is being applied, whose transaction has locked the plan."""

RESUME = text("""
    UPDATE plans SET state = 'APPLYING', next_at = greatest(next_at, :now)
    WHERE plan_id = :plan_id AND state = 'PAUSED'
""")

STOP = text("""
    UPDATE plans SET state = 'STOPPED', finished_at = :now
    WHERE plan_id = :plan_id AND state IN ('PLANNED', 'APPLYING', 'PAUSED')
""")

STOP_ITEMS = text("""
    UPDATE plan_items SET state = 'STOPPED', done_at = :now
    WHERE plan_id = :plan_id AND state = 'PLANNED'
""")

PARKED_AGAIN = """
    FROM plan_items AS item JOIN sagas USING (saga_id)
    WHERE item.plan_id = :plan_id AND item.state = 'DONE'
      AND sagas.state = 'NEEDS_REVIEW' AND sagas.parked_at > item.done_at
"""
COUNT_PARKED_AGAIN = text(f"SELECT count(*) {PARKED_AGAIN}")

OUTCOMES = text("""
    SELECT state, runs, CASE WHEN state = 'NOT_RUNNABLE' THEN detail END AS detail, count(*) AS count,
           min(saga_id) AS example
    FROM plan_items
    WHERE plan_id = :plan_id
    GROUP BY 1, 2, 3
    ORDER BY count DESC, example
    LIMIT :limit
""")

_PLAN = f"""
    SELECT {PLAN_COLUMNS.names},
           coalesce((SELECT jsonb_object_agg(item.state, item.count)
                     FROM (SELECT state, count(*) FROM plan_items WHERE plan_id = plans.plan_id GROUP BY state) AS item
                    ), '{{}}') AS counts
    FROM plans
"""
ONE_PLAN = text(_PLAN + "WHERE plan_id = :plan_id")
LATEST_PLANS = text(f"""
    {_PLAN}
    WHERE CAST(:states AS text[]) IS NULL OR state = ANY(CAST(:states AS text[]))
    ORDER BY planned_at DESC
    LIMIT :limit
""")

PARKED_AGAIN_ITEMS = text(f"""
    SELECT {ITEM_COLUMNS.names_in("item")}
    {PARKED_AGAIN} AND item.saga_id > :after
    ORDER BY item.saga_id
    LIMIT :limit
""")

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


def insert(
    tx: Connection,
    plan_id: str,
    act: ActKind,
    selection: Mapping[str, Any],
    *,
    by: str,
    at: datetime,
    needs_approval: bool = False,
) -> None:
    """Store a new plan; :func:`insert_items` adds its sagas."""
    values = {"plan_id": plan_id, "act": act.value, "selection": json.dumps(selection), "planned_by": by}
    tx.execute(INSERT_PLAN, {**values, "planned_at": at, "needs_approval": needs_approval})


def insert_items(tx: Connection, plan_id: str, items: Sequence[Item]) -> None:
    """Add sagas to a plan that is being made, in one statement."""
    if items:
        tx.execute(INSERT_ITEMS, ITEM_COLUMNS.parameters(items) | {"plan_id": plan_id})


def apply(tx: Connection, plan_id: str, *, by: str, reason: str, rate_per_s: int, now: datetime) -> bool:
    """Let the worker apply a plan. Return False where it was applied before, and leave it as it is."""
    values = {"plan_id": plan_id, "applied_by": by, "reason": reason, "rate_per_s": rate_per_s, "now": now}
    return tx.execute(APPLY, values).rowcount == 1


def approve(tx: Connection, plan_id: str, *, by: str, reason: str, now: datetime) -> bool:
    """Approve a plan. Return False where it needs none, has one, is under way, or the same person planned it."""
    return tx.execute(APPROVE, {"plan_id": plan_id, "by": by, "reason": reason, "now": now}).rowcount == 1


def pause(tx: Connection, plan_id: str) -> bool:
    """Let a plan send nothing more until it is resumed. Return False where it is not under way."""
    return tx.execute(PAUSE, {"plan_id": plan_id}).rowcount == 1


def resume(tx: Connection, plan_id: str, *, now: datetime) -> bool:
    """Let a paused plan go on. Return False where it is not paused."""
    return tx.execute(RESUME, {"plan_id": plan_id, "now": now}).rowcount == 1


def stop(tx: Connection, plan_id: str, *, now: datetime) -> bool:
    """End a plan for good; what was not sent never is. Return False where it has ended."""
    if tx.execute(STOP, {"plan_id": plan_id, "now": now}).rowcount == 0:
        return False
    tx.execute(STOP_ITEMS, {"plan_id": plan_id, "now": now})
    return True


def parked_again_count(tx: Connection, plan_id: str) -> int:
    """Return how many sagas of a plan were parked again after the act."""
    found: int = tx.execute(COUNT_PARKED_AGAIN, {"plan_id": plan_id}).scalar_one()
    return found


def parked_again(tx: Connection, plan_id: str, *, after: str, limit: int) -> list[Item]:
    """Return the sagas of a plan that were parked again after the act, in the order of their ids."""
    rows = tx.execute(PARKED_AGAIN_ITEMS, {"plan_id": plan_id, "after": after, "limit": limit})
    return [Item(**row._mapping) for row in rows]


def outcomes(tx: Connection, plan_id: str, *, limit: int) -> list[Outcome]:
    """Return what a plan sends, or why nothing, each with the number of its sagas, the most frequent first."""
    return [Outcome(**row._mapping) for row in tx.execute(OUTCOMES, {"plan_id": plan_id, "limit": limit})]


def find(tx: Connection, plan_id: str) -> Plan | None:
    """Return a plan, or None where none has that id."""
    row = tx.execute(ONE_PLAN, {"plan_id": plan_id}).first()
    return None if row is None else Plan(**row._mapping)


def latest(tx: Connection, *, states: Sequence[str] = (), limit: int) -> list[Plan]:
    """Return the latest plans, the newest first, in these states; without any in every state."""
    return [Plan(**row._mapping) for row in tx.execute(LATEST_PLANS, {"states": list(states) or None, "limit": limit})]


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
