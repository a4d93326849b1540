"""Records deadlines that passed, as facts, and finds sagas that no deadline would ever wake.

A deadline is judged only up to the time up to which its partition is recorded: the answer may be among the messages
that are not recorded yet. A step's deadline is postponed until its service has had the trigger for the whole timeout.
It must never use Kafka, Faust or a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id
from messages.contract import name_of
from saga_tracker.ingest import decisions
from saga_tracker.ingest.tracked_saga import TrackedSaga, track
from saga_tracker.ingest.unit_of_work import UnitOfWork
from saga_tracker.model.consumption import ConsumptionHistory, judge_again_at
from saga_tracker.model.decision import SagaState, key_of
from saga_tracker.model.facts import TimedOut
from saga_tracker.model.saga import SERVICE, Definitions, StepDefinition
from saga_tracker.store import sagas, timeline, watermarks
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.timeline import Entry

DUE_MAX = 500
"""Sagas whose deadlines one transaction handles; the next sweep continues."""
PUT_OFF_MAX = 5_000
"""Each saga under way is put off once in a step's timeout. Where more than this are due in a second, the rest waits for
the next sweep, which only costs another look at them."""
BEYOND_MIN = timedelta(days=1)
"""No definition sets a deadline so far ahead, not even one whose timeouts were longer in the last release."""

log = structlog.get_logger()


class Deadlines:
    """Sweeps the deadlines of the sagas with these definitions. All recording of a process shares one ``cache``."""

    def __init__(self, definitions: Definitions, codec: Codec, cache: SagaCache) -> None:
        self._definitions = definitions
        self._codec = codec
        self._cache = cache

    def sweep(
        self,
        tx: Connection,
        recorded_until: Mapping[int, datetime],
        consumption: ConsumptionHistory,
        *,
        now: datetime,
    ) -> list[OutboxRow]:
        """Record the deadlines that passed, by partition up to the time up to which everything is recorded.

        A step's deadline is postponed until its service has had the trigger for the whole timeout, by ``consumption``.
        Publish the rows after the commit.
        """
        watermarks.raise_to(tx, recorded_until)
        sagas.put_off(tx, recorded_until, limit=PUT_OFF_MAX)
        unit_of_work = UnitOfWork(self._codec, now=now)
        due = self._track(tx, sagas.load_due(tx, recorded_until, limit=DUE_MAX), now)
        postponed = self.postpone(tx, due, consumption, recorded_until, now)
        overdue = [saga for saga in due if saga.row.saga_id not in postponed]
        for saga in overdue:
            _time_out(saga, unit_of_work)
        unit_of_work.save(tx, overdue)
        sagas.save(tx, [saga.row for saga in due if saga.row.saga_id in postponed], now=now)
        return unit_of_work.outbox_rows

    def postpone(
        self,
        tx: Connection,
        due: Sequence[TrackedSaga],
        consumption: ConsumptionHistory,
        recorded_until: Mapping[int, datetime],
        now: datetime,
    ) -> set[str]:
        """Postpone the deadlines of steps whose time is not over yet, and return the ids of their sagas.

        A row shows that it waits for its service to have the trigger. Once that has had it, the row waits for the step.
        """
        awaited = {saga.row.saga_id: (saga, step) for saga in due if (step := _awaited_step(saga))}
        triggers = timeline.positions_of(
            tx, {saga_id: (name_of(step.trigger), step.trigger_topic) for saga_id, (_, step) in awaited.items()}
        )
        postponed: set[str] = set()
        for saga_id, (saga, step) in awaited.items():
            if (trigger := triggers.get(saga_id)) is not None:
                had_since = consumption.had_since(step.service, *trigger)
            else:  # Everything up to the deadline is recorded, so there is no trigger that the service could have had.
                had_since = consumption.available_since(step.service, saga.row.partition)
            until = recorded_until[saga.row.partition]
            again_at = judge_again_at(had_since, timeout_s=step.timeout_s, recorded_until=until, now=now)
            saga.row.waiting = _to_be_taken(step) if had_since is None else _to_run(step)
            if again_at is not None:
                saga.row.deadline_at = again_at
                postponed.add(saga_id)
        return postponed

    def wake_orphans(self, tx: Connection, partitions: Collection[int], *, now: datetime) -> list[OutboxRow]:
        """Decide again about sagas that no deadline would ever wake, and record that on their timelines."""
        unit_of_work = UnitOfWork(self._codec, now=now)
        longest = max(timedelta(seconds=definition.waits_s_max) for definition in self._definitions.values())
        beyond = now + max(longest, BEYOND_MIN)
        sagas.wake_in_time(tx, partitions)
        found = sagas.load_orphans(tx, partitions, list(self._definitions), beyond=beyond, limit=DUE_MAX)
        orphans = self._track(tx, found, now)
        for saga in orphans:
            row = saga.row
            detail = _orphan_detail(row)
            log.warning("An orphaned saga is decided again.", saga_id=row.saga_id, was=detail)
            saga.cause = derived_id(row.saga_id, "orphan", row.version)
            unit_of_work.entries.append(
                Entry(
                    saga_id=row.saga_id,
                    message_id=saga.cause,
                    occurred_at=now,
                    kind="timer",
                    type="Orphaned",
                    service=SERVICE,
                    step=row.step or None,
                    detail=detail,
                    partition=row.partition,
                )
            )
            row.waiting = None
        unit_of_work.save(tx, orphans)
        return unit_of_work.outbox_rows

    def _track(self, tx: Connection, rows: Sequence[SagaRow], now: datetime) -> list[TrackedSaga]:
        """Return the sagas whose definition this release has. The others are parked until a release has it."""
        self._cache.take_sagas(row.saga_id for row in rows)
        tracked = track(self._definitions, rows)
        known = {saga.row.saga_id for saga in tracked}
        others = [row for row in rows if row.saga_id not in known]
        for row in others:
            row.state, row.waiting, row.deadline_at = SagaState.NEEDS_REVIEW.value, sagas.A_DEFINITION, None
            row.reason = f"this release has no {row.saga_type} version {row.saga_version}"
            row.parked_at = row.parked_at or now
        sagas.save(tx, others, now=now)
        return tracked


def _awaited_step(saga: TrackedSaga) -> StepDefinition | None:
    """Return the step that the saga waits for; None where it waits for something else, or is to be decided again."""
    waiting = saga.decision.waiting
    if waiting is None or not isinstance(waiting.timer, TimedOut):
        return None
    step = next(step for step in saga.definition.steps if step.name == waiting.timer.step)
    return step if saga.row.waiting in (_to_run(step), _to_be_taken(step)) else None


def _to_run(step: StepDefinition) -> str:
    return key_of(TimedOut(step=step.name))


def _to_be_taken(step: StepDefinition) -> str:
    return f"{step.name} to be taken by {step.service}"


def _time_out(saga: TrackedSaga, unit_of_work: UnitOfWork) -> None:
    """Add the timer's fact, unless the saga waits for something else by now."""
    row, waiting = saga.row, saga.decision.waiting
    if waiting is None or waiting.key != row.waiting:
        return
    assert row.deadline_at is not None, "it was loaded because its deadline passed"
    decision = decisions.deadline_passed(saga, waiting.timer, deadline_at=row.deadline_at, now=unit_of_work.now)
    saga.cause = decision.message_id
    unit_of_work.record_decision(saga, decision, is_awaited=True)
    saga.add(waiting.timer)


def _orphan_detail(row: SagaRow) -> str:
    if row.waiting == sagas.A_DEFINITION:
        return "its definition is known again"
    if row.state == SagaState.NEEDS_REVIEW:
        return "it was parked without a reason"
    return "it was under way without a deadline" if row.deadline_at is None else "its deadline was out of all bounds"
