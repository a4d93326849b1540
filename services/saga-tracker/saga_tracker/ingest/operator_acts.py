"""Applies operators' plans in the worker: the one place where an act changes a saga (``store.plans`` only holds plans).

The steps of one transaction:

1. One plan is locked, so that its rate holds for all workers together.
2. Its next sagas of this worker's partitions are loaded.
3. A saga that changed since it was planned is skipped; the others get the act, as a fact of their own.
4. Each act goes to Kafka as a decision, with an entry in the operators' log; the results go into the plan. What
   follows from an act is sent when the decision is read back.

After a crash, the next worker continues with the sagas that have no result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from saga_tracker.ingest import decisions
from saga_tracker.ingest.decisions import AppliedAct
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.ingest.unit_of_work import UnitOfWork
from saga_tracker.model.facts import Cancelled, Fact, Resolved
from saga_tracker.model.operating import NotRedrivable, redrive, settle
from saga_tracker.model.saga import Definitions, services_of
from saga_tracker.store import dead_letters, plans, sagas
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.plans import ActKind, Item, ItemState, LockedPlan
from saga_tracker.store.sagas import SagaRow

BATCH_MAX = 500
"""Sagas in one transaction, which locks them for some tenths of a second."""
BATCHES_PER_S = 2
"""How often a plan continues: as often as the worker ticks."""

Results = dict[str, tuple[ItemState, str | None]]


class OperatorActs:
    """Applies plans to the sagas with these definitions. All recording of a process shares one ``cache``."""

    def __init__(self, definitions: Definitions, codec: Codec, cache: SagaCache) -> None:
        self._definitions = definitions
        self._services = services_of(definitions)
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
        acts: list[tuple[TrackedSaga, AppliedAct]] = []
        results: Results = {}
        for item in items:
            row = rows.get(item.saga_id)
            definition = None if row is None else self._definitions.get((row.saga_type, row.saga_version))
            if row is None or definition is None or row.version != item.revision:
                results[item.saga_id] = ItemState.CHANGED, _change(item, row)
                continue
            saga = TrackedSaga(row=row, definition=definition)
            redrives = {
                service: number
                for service, number in without_step.get(row.saga_id, {}).items()
                if service in self._services  # a letter's headers may name any other
            }
            acts.append((saga, _act(plan, saga, item, redrives, now)))
            results[item.saga_id] = ItemState.DONE, item.runs
        # 4.
        outbox_rows = self._save(tx, acts, now)
        if plan.act is ActKind.REDRIVE:
            resolved = [(saga.row.saga_id, act.actor, act.reason) for saga, act in acts]
            dead_letters.resolve(tx, resolved, dead_letters.REDRIVEN, now=now)
        next_at = now + timedelta(seconds=len(items) / plan.rate_per_s)
        plans.finish_items(tx, plan.plan_id, results, next_at=next_at, now=now)
        return outbox_rows

    def _save(self, tx: Connection, acts: Sequence[tuple[TrackedSaga, AppliedAct]], now: datetime) -> list[OutboxRow]:
        """Add these acts to their sagas, and save them. Their commands are sent when the acts are read back."""
        unit_of_work = UnitOfWork(self._codec, now=now)
        self._cache.take_sagas(saga.row.saga_id for saga, _ in acts)
        for saga, act in acts:
            decision = decisions.operator_acted(saga, act, now=now)
            saga.cause = decision.message_id
            unit_of_work.record_decision(saga, decision, is_awaited=act.fact is not None or bool(act.redrives))
            unit_of_work.log_entries += decisions.log_entries_of(decision)
            if act.fact is not None:
                saga.add(act.fact)
        unit_of_work.save(tx, [saga for saga, _ in acts])
        return unit_of_work.outbox_rows


def _change(item: Item, row: SagaRow | None) -> str:
    if row is None:
        return "The tracker no longer has this saga."
    return f"It was at version {item.revision} when it was planned and is at {row.version}, {row.state}; plan again."


def _act(plan: LockedPlan, saga: TrackedSaga, item: Item, redrives: Mapping[str, int], now: datetime) -> AppliedAct:
    return AppliedAct(
        kind=plan.act,
        plan_id=plan.plan_id,
        actor=plan.applied_by,
        proposed_by=None if plan.act.resolution is None else plan.planned_by,
        reason=plan.reason,
        runs=item.runs,
        fact=_fact(plan, saga, now),
        redrives=redrives,
    )


def _fact(plan: LockedPlan, saga: TrackedSaga, now: datetime) -> Fact | None:
    match plan.act:
        case ActKind.REDRIVE:
            try:
                return redrive(saga.definition, saga.row.progress, at=now, by=plan.applied_by, reason=plan.reason)
            except NotRedrivable:
                return None  # Only a service's parked messages of no known step are redriven.
        case ActKind.COMPENSATE:
            return Cancelled(at=now, by=plan.applied_by, reason=plan.reason)
        case ActKind.SETTLE:
            return settle(saga.row.progress, at=now, by=plan.applied_by, reason=plan.reason)
        case ActKind.ANNOTATE:
            return None
    resolution = plan.act.resolution
    assert resolution is not None, "every other kind of act has a case of its own"
    return Resolved(at=now, resolution=resolution, by=plan.applied_by, proposed_by=plan.planned_by, reason=plan.reason)
