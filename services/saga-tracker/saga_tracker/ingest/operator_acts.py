"""Applies operators' plans, some sagas a transaction: who comes after a crash goes on with the next ones.

1. One plan is locked, so that its rate holds for all workers together.
2. Its next sagas, of this worker's partitions, are loaded and locked.
3. One that has changed since it was planned is passed over; the others get the act, as a fact of their own.
4. What follows is recorded like any other fact, with a line in the operators' log; the results stand in the plan.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from chassis.saga.outbox import OutboxRow
from chassis.wire.envelope import derived_id
from sqlalchemy import Connection

from saga_tracker.ingest.recorder import Act, Recorder
from saga_tracker.model.facts import Cancelled, Fact
from saga_tracker.model.progress import NotRedrivable, redrive
from saga_tracker.model.saga import SERVICE, Definitions, SagaDefinition
from saga_tracker.store import dead_letters, plans, sagas
from saga_tracker.store.plans import ActKind, Applying, Item, ItemState, LogEntry
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.timeline import Entry

BATCH_MAX = 500
"""Sagas in one transaction: locked for some tenths of a second."""
BATCHES_PER_S = 2
"""So often a plan goes on, which is how often the worker ticks."""
TITLES: Mapping[ActKind, str] = {
    ActKind.REDRIVE: "Redrive",
    ActKind.COMPENSATE: "Compensate",
    ActKind.ANNOTATE: "Annotate",
}
"""What an act is called on a timeline."""

Results = dict[str, tuple[ItemState, str | None]]


def apply_next(
    tx: Connection, recorder: Recorder, definitions: Definitions, partitions: Collection[int], *, now: datetime
) -> list[OutboxRow]:
    """Apply the next part of a plan, if one waits; publish the rows once it is committed."""
    # 1.
    plan = plans.lock(tx, partitions, now=now)
    if plan is None:
        return []
    size = min(BATCH_MAX, max(1, plan.rate_per_s // BATCHES_PER_S))
    items = plans.next_items(tx, plan.plan_id, partitions, limit=size)
    # 2.
    rows = sagas.load(tx, [item.saga_id for item in items])
    unclear = dead_letters.unclear(tx, list(rows)) if plan.act is ActKind.REDRIVE else {}
    # 3.
    acts: list[tuple[SagaRow, Act]] = []
    results: Results = {}
    for item in items:
        row = rows.get(item.saga_id)
        definition = None if row is None else definitions.get((row.saga_type, row.saga_version))
        if row is None or definition is None or row.version != item.revision:
            results[item.saga_id] = ItemState.CHANGED, _changed(item, row)
            continue
        services = {each: n for each, n in unclear.get(row.saga_id, {}).items() if each in definition.participants}
        acts.append((row, _act(plan, definition, row, services, now)))
        results[item.saga_id] = ItemState.DONE, item.runs
    # 4.
    out = recorder.act(tx, acts, now=now)
    if plan.act is ActKind.REDRIVE:
        resolved = [(row.saga_id, plan.applied_by, plan.reason) for row, _ in acts]
        dead_letters.resolve(tx, resolved, dead_letters.REDRIVEN, now=now)
    plans.log(tx, [_log_entry(plan, act, results[row.saga_id][1], now) for row, act in acts])
    next_at = now + timedelta(seconds=len(items) / plan.rate_per_s)
    plans.finish_items(tx, plan.plan_id, results, next_at=next_at, now=now)
    return out


def _changed(item: Item, row: SagaRow | None) -> str:
    if row is None:
        return "The tracker has no such saga any more."
    return f"It was at version {item.revision} when it was planned and is at {row.version}, {row.state}; plan again."


def _act(plan: Applying, definition: SagaDefinition, row: SagaRow, services: Mapping[str, int], now: datetime) -> Act:
    entry = Entry(
        saga_id=row.saga_id,
        message_id=derived_id(plan.plan_id, row.saga_id),
        occurred_at=now,
        kind="act",
        type=TITLES[plan.act],
        service=SERVICE,
        step=row.step,
        detail=f"{plan.applied_by}: {plan.reason}",
        partition=row.partition,
    )
    return Act(entry=entry, fact=_fact(plan, definition, row, now), unclear=services)


def _fact(plan: Applying, definition: SagaDefinition, row: SagaRow, now: datetime) -> Fact | None:
    match plan.act:
        case ActKind.REDRIVE:
            try:
                return redrive(definition, row.progress, at=now, by=plan.applied_by, reason=plan.reason)
            except NotRedrivable:
                return None  # It was planned for what a service holds of no known step.
        case ActKind.COMPENSATE:
            return Cancelled(at=now, by=plan.applied_by, reason=plan.reason)
        case ActKind.ANNOTATE:
            return None


def _log_entry(plan: Applying, act: Act, detail: str | None, now: datetime) -> LogEntry:
    return LogEntry(
        act_id=act.entry.message_id,
        at=now,
        actor=plan.applied_by,
        act=plan.act.value,
        reason=plan.reason,
        saga_id=act.entry.saga_id,
        plan_id=plan.plan_id,
        detail=detail,
    )
