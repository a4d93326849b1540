"""Applies operators' plans in the worker: the one place where an act changes a saga (``store.plans`` only holds plans).

The steps of one transaction:

1. One plan is locked, so that its rate holds for all workers together.
2. Its next sagas of this worker's partitions are loaded.
3. A saga that changed since it was planned is skipped; the others get the act, as a fact of their own.
4. What follows is saved like after any other fact, with an entry in the operators' log. The results go into the plan.

After a crash, the next worker continues with the sagas that have no result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id
from saga_tracker.ingest.outgoing import redrive_of_unknown_step
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.ingest.unit_of_work import UnitOfWork
from saga_tracker.model.facts import Cancelled, Fact, Resolved
from saga_tracker.model.progress import NotRedrivable, redrive
from saga_tracker.model.saga import SERVICE, Definitions
from saga_tracker.store import dead_letters, plans, sagas
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.plans import ActKind, Item, ItemState, LockedPlan, LogEntry
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.timeline import Entry

BATCH_MAX = 500
"""Sagas in one transaction, which locks them for some tenths of a second."""
BATCHES_PER_S = 2
"""How often a plan continues: as often as the worker ticks."""
TITLES: Mapping[ActKind, str] = {
    ActKind.REDRIVE: "Redrive",
    ActKind.COMPENSATE: "Compensate",
    ActKind.ANNOTATE: "Annotate",
    ActKind.RESOLVE_COMPENSATED: "Resolve",
    ActKind.RESOLVE_CONFIRMED: "Resolve",
}
"""The type of an act's timeline entry."""

Results = dict[str, tuple[ItemState, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """One act on one saga: its timeline entry, and its fact if it has one.

    ``redrives`` maps each service that must retry its parked messages of no known step to the number of the redrive.
    """

    saga: TrackedSaga
    entry: Entry
    fact: Fact | None
    redrives: Mapping[str, int]


class OperatorActs:
    """Applies plans to the sagas with these definitions. All recording of a process shares one ``cache``."""

    def __init__(self, definitions: Definitions, codec: Codec, cache: SagaCache) -> None:
        self._definitions = definitions
        self._codec = codec
        self._cache = cache

    def apply_next(self, tx: Connection, partitions: Collection[int], *, now: datetime) -> list[OutboxRow]:
        """Apply the next part of a plan, if one is due. Publish the rows after the commit."""
        # 1.
        plan = plans.lock(tx, partitions, now=now)
        if plan is None:
            return []
        size = min(BATCH_MAX, max(1, plan.rate_per_s // BATCHES_PER_S))
        items = plans.next_items(tx, plan.plan_id, partitions, limit=size)
        # 2.
        rows = sagas.load(tx, [item.saga_id for item in items])
        without_step = dead_letters.services_without_step(tx, list(rows)) if plan.act is ActKind.REDRIVE else {}
        # 3.
        acts: list[_Act] = []
        results: Results = {}
        for item in items:
            row = rows.get(item.saga_id)
            definition = None if row is None else self._definitions.get((row.saga_type, row.saga_version))
            if row is None or definition is None or row.version != item.revision:
                results[item.saga_id] = ItemState.CHANGED, _change(item, row)
                continue
            saga = TrackedSaga(row=row, definition=definition)
            acts.append(_act(plan, saga, without_step.get(row.saga_id, {}), now))
            results[item.saga_id] = ItemState.DONE, item.runs
        # 4.
        outbox_rows = self._save(tx, acts, now)
        if plan.act is ActKind.REDRIVE:
            resolved = [(act.entry.saga_id, plan.applied_by, plan.reason) for act in acts]
            dead_letters.resolve(tx, resolved, dead_letters.REDRIVEN, now=now)
        plans.log(tx, [_log_entry(plan, act.entry, results[act.entry.saga_id][1], now) for act in acts])
        next_at = now + timedelta(seconds=len(items) / plan.rate_per_s)
        plans.finish_items(tx, plan.plan_id, results, next_at=next_at, now=now)
        return outbox_rows

    def _save(self, tx: Connection, acts: Sequence[_Act], now: datetime) -> list[OutboxRow]:
        """Add these acts to their sagas, and save what follows."""
        unit_of_work = UnitOfWork(self._codec, now=now)
        self._cache.take_sagas(act.entry.saga_id for act in acts)
        for act in acts:
            saga = act.saga
            saga.cause = act.entry.message_id
            unit_of_work.entries.append(act.entry)
            if act.fact is not None:
                saga.add(act.fact)
            for service, number in act.redrives.items():
                unit_of_work.send(saga, redrive_of_unknown_step(saga.row, service, number, act.entry, now), None)
        unit_of_work.save(tx, [act.saga for act in acts])
        return unit_of_work.outbox_rows


def _change(item: Item, row: SagaRow | None) -> str:
    if row is None:
        return "The tracker no longer has this saga."
    return f"It was at version {item.revision} when it was planned and is at {row.version}, {row.state}; plan again."


def _act(plan: LockedPlan, saga: TrackedSaga, without_step: Mapping[str, int], now: datetime) -> _Act:
    row = saga.row
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
    participants = saga.definition.participants
    redrives = {service: number for service, number in without_step.items() if service in participants}
    return _Act(saga=saga, entry=entry, fact=_fact(plan, saga, now), redrives=redrives)


def _fact(plan: LockedPlan, saga: TrackedSaga, now: datetime) -> Fact | None:
    match plan.act:
        case ActKind.REDRIVE:
            try:
                return redrive(saga.definition, saga.row.progress, at=now, by=plan.applied_by, reason=plan.reason)
            except NotRedrivable:
                return None  # Only a service's parked messages of no known step are redriven.
        case ActKind.COMPENSATE:
            return Cancelled(at=now, by=plan.applied_by, reason=plan.reason)
        case ActKind.ANNOTATE:
            return None
    resolution = plan.act.resolution
    assert resolution is not None, "every other kind of act has a case of its own"
    return Resolved(at=now, resolution=resolution, by=plan.applied_by, proposed_by=plan.planned_by, reason=plan.reason)


def _log_entry(plan: LockedPlan, entry: Entry, detail: str | None, now: datetime) -> LogEntry:
    return LogEntry(
        act_id=entry.message_id,
        at=now,
        actor=plan.applied_by,
        act=plan.act.value,
        reason=plan.reason,
        saga_id=entry.saga_id,
        plan_id=plan.plan_id,
        detail=detail,
    )
