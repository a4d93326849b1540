"""Records a batch in one transaction: offsets, timelines, sagas and what follows from them.

The order of things is the protocol:

1. The stored offsets move over the batch, unless another worker has moved them. What lies before them is recorded
   already and passed over, so a worker that lost its partition does no harm; where a batch leaves a gap behind them,
   everything ends here.
2. The batch's sagas are remembered from the last one, or loaded.
3. Each message adds its fact to what is known of its saga, in the order in which they came.
4. What follows is decided once a saga; commands and last events go into the outbox, deadlines into the saga.
5. Timeline, sagas and outbox are saved, unless another worker has stored one of the sagas. The caller's transaction
   commits, and only then may rows be published.

Timers are recorded the same way, as facts. It knows no Kafka, no Faust and no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from chassis.saga import outbox
from chassis.saga.dead_letters import DeadLetter, dead_letter_row
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec, Undecodable
from chassis.wire.envelope import TRACEPARENT, child_traceparent, derived_id, headers
from messages.contract import name_of
from messages.saga import CancelSaga
from sqlalchemy import Connection, event

from saga_tracker import saga_metrics
from saga_tracker.ingest.consumer_progress import ConsumerProgress
from saga_tracker.ingest.decoding import Reading, Record, Unexpected, fact_of_dead_letter, read, step_of
from saga_tracker.ingest.outgoing import Issue, issues, redrive_unclear
from saga_tracker.model.facts import NOTHING, Cancelled, Fact, Started, TimedOut, Timer, merge
from saga_tracker.model.progress import FENCE, Decision, Phase, SagaState, admits, decide, forward_from, is_late
from saga_tracker.model.saga import SERVICE, Definitions, SagaDefinition, StepDefinition
from saga_tracker.store import consumed_offsets, dead_letters, plans, sagas, timeline, watermarks
from saga_tracker.store.cache import Memory
from saga_tracker.store.consumed_offsets import TopicPartition
from saga_tracker.store.dead_letters import LetterRow
from saga_tracker.store.plans import LogEntry
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.timeline import Entry

DUE_MAX = 500
"""Sagas whose deadlines one transaction handles; the next sweep goes on."""
PUT_OFF_MAX = 5_000
"""Sagas under way come here once in a step's timeout; more than this a second take turns, and only cost a look."""
BEYOND_MIN = timedelta(days=1)
"""A deadline so far ahead is of no definition, also not of one whose times were longer in the last release."""
REFUSED = "refused, the saga had ended"

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class _Followed:
    """A saga while its batch is recorded. ``cause`` is the message behind what follows, ``trace`` its context."""

    row: SagaRow
    definition: SagaDefinition
    cause: str | None = None
    trace: str | None = None


@dataclass(slots=True, kw_only=True)
class _Outgoing:
    entries: list[Entry] = field(default_factory=list)
    rows: list[OutboxRow] = field(default_factory=list)
    letters: list[LetterRow] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an operator did about a saga: its line on the timeline, and the fact that it is, if any.

    ``unclear`` are the services that are to try again what they hold of no known step, with the number of the redrive.
    """

    entry: Entry
    fact: Fact | None = None
    unclear: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a batch left behind: rows to publish once it is committed, where its partitions go on, and its sagas."""

    rows: list[OutboxRow]
    offsets: dict[TopicPartition, int]
    sagas: list[SagaRow]


class OffsetGap(Exception):
    """A batch does not go on where the last one ended: messages would be lost, so the worker must not go on."""


class Recorder:
    """Records batches and timers for the sagas of these definitions.

    ``timeout_factor`` stretches or shortens every deadline; it is 1 but for tests.
    """

    def __init__(self, definitions: Definitions, codec: Codec, *, timeout_factor: float = 1.0) -> None:
        self._definitions = definitions
        self._codec = codec
        self._timeout_factor = timeout_factor
        self._memory = Memory()

    def begin(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Go on at these offsets, which were just read; nothing else of before holds any more."""
        self._memory.begin(offsets)

    def record(self, tx: Connection, batch: Sequence[Record], *, now: datetime) -> Recorded:
        """Record a batch, given in the order of each partition.

        Hand the result to :meth:`committed` once it is. Raises Overtaken, whereupon the same again is recorded by what
        PostgreSQL has, and OffsetGap where messages were lost on the way here.
        """
        # 1.
        places = {record.place for record in batch}
        stored = self._memory.take_offsets(places) or consumed_offsets.lock(tx, places)
        fresh, offsets = new_records(batch, stored)
        check_offsets = consumed_offsets.move(tx, stored, offsets)
        out = _Outgoing()
        readings = self._read(fresh, out)
        # 2.
        followed = self._follow(tx, readings)
        # 3.
        for reading in readings:
            saga = followed.get(reading.saga_id)
            if saga is not None:
                self._apply(saga, reading, out)
            elif reading.dead_letter is not None:
                out.letters.append(_letter_row(reading, step=reading.dead_letter.step, is_open=True))
        self._finish(tx, followed.values(), out, now)
        check_offsets()
        return Recorded(rows=out.rows, offsets=offsets, sagas=[saga.row for saga in followed.values()])

    def committed(self, recorded: Recorded) -> None:
        """Remember what was recorded, now that it is committed; publish its rows."""
        self._memory.keep(recorded.offsets, recorded.sagas)

    def act(self, tx: Connection, acts: Sequence[tuple[SagaRow, Act]], *, now: datetime) -> list[OutboxRow]:
        """Record what operators did about these sagas, which are loaded and locked, and what follows."""
        out = _Outgoing()
        self._memory.take_sagas(row.saga_id for row, _ in acts)
        known = {saga.row.saga_id: saga for saga in self._known([row for row, _ in acts])}
        for row, act in acts:
            saga = known[row.saga_id]
            saga.cause = act.entry.message_id
            out.entries.append(act.entry)
            if act.fact is not None:
                row.progress = merge(row.progress, act.fact)
            for service, number in act.unclear.items():
                self._send(saga, redrive_unclear(row, service, number, act.entry, now), None, out, now)
        self._finish(tx, list(known.values()), out, now)
        return out.rows

    def due_services(self, tx: Connection, until: Mapping[int, datetime]) -> set[str]:
        """Return the services whose steps are the next that :meth:`sweep` may find overdue."""
        steps = sagas.due_steps(tx, until)
        definitions = self._definitions.values()
        return {step.service for definition in definitions for step in definition.steps if step.name in steps}

    def sweep(
        self, tx: Connection, until: Mapping[int, datetime], taken: ConsumerProgress, *, now: datetime
    ) -> list[OutboxRow]:
        """Record the deadlines that passed, by partition up to the time up to which everything is recorded.

        A deadline that lies beyond that is left alone: the answer may be among what has not been read yet. So is one
        of a step whose service has not ``taken`` its trigger, until the whole saga's deadline has passed.
        """
        watermarks.raise_to(tx, until)
        sagas.put_off(tx, until, limit=PUT_OFF_MAX)
        out = _Outgoing()
        due = self._known_or_parked(tx, sagas.load_due(tx, until, limit=DUE_MAX), now)
        waits = self._put_off(tx, due, taken, now)
        judged = [saga for saga in due if saga.row.saga_id not in waits]
        for saga in judged:
            self._time_out(saga, out)
        self._finish(tx, judged, out, now)
        sagas.save(tx, [saga.row for saga in due if saga.row.saga_id in waits], now=now)
        return out.rows

    def _put_off(self, tx: Connection, due: Sequence[_Followed], taken: ConsumerProgress, now: datetime) -> set[str]:
        """Put deadlines off whose service has not taken the trigger yet, and return the ids of their sagas.

        Once it has, the step gets its whole time: what the saga waits for has another key by then.
        """
        awaited = {saga.row.saga_id: (saga, step) for saga in due if (step := self._overdue_step(saga, now))}
        places = timeline.positions_of(tx, {saga_id: name_of(step.trigger) for saga_id, (_, step) in awaited.items()})
        waits: set[str] = set()
        for saga_id, (saga, step) in awaited.items():
            place, offset = places.get(saga_id, (None, 0))
            if place is None or taken.includes(step.service, place, offset):
                continue
            whole = self._whole(saga)
            saga.row.waiting = f"{step.name} to be taken by {step.service}"
            saga.row.deadline_at = min(now + self._span(step.timeout_s), whole)
            waits.add(saga_id)
        return waits

    def _overdue_step(self, saga: _Followed, now: datetime) -> StepDefinition | None:
        """Return the step that the saga waits for; None where it waits for something else, or has waited enough."""
        waiting = decide(saga.definition, saga.row.progress).waiting
        if waiting is None or not isinstance(waiting.timer, TimedOut):
            return None
        if now >= self._whole(saga):
            saga.row.waiting = waiting.key
            return None
        return next(step for step in saga.definition.steps if step.name == waiting.timer.step)

    def _whole(self, saga: _Followed) -> datetime:
        """Return the deadline of the saga as a whole; nothing but a redrive puts it off."""
        return forward_from(saga.row.progress, saga.row.started_at) + self._span(saga.definition.deadline_s)

    def _span(self, span_s: float) -> timedelta:
        return timedelta(seconds=span_s * self._timeout_factor)

    def wake_orphans(self, tx: Connection, partitions: Collection[int], *, now: datetime) -> list[OutboxRow]:
        """Decide again for sagas that nobody would ever wake, and say so on their timelines."""
        out = _Outgoing()
        longest = max(self._span(definition.deadline_s) for definition in self._definitions.values())
        beyond = now + max(longest, BEYOND_MIN)
        sagas.wake_in_time(tx, partitions)
        found = sagas.load_orphans(tx, partitions, list(self._definitions), beyond=beyond, limit=DUE_MAX)
        orphans = self._known_or_parked(tx, found, now)
        for saga in orphans:
            row = saga.row
            detail = _orphan(row)
            log.warning("A saga that nobody would wake is decided again.", saga_id=row.saga_id, was=detail)
            saga.cause = derived_id(row.saga_id, "orphan", row.version)
            out.entries.append(
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
        self._finish(tx, orphans, out, now)
        return out.rows

    def _known_or_parked(self, tx: Connection, rows: Sequence[SagaRow], now: datetime) -> list[_Followed]:
        """Return the sagas whose definition this release has; the others are parked until one has it."""
        self._memory.take_sagas(row.saga_id for row in rows)
        known = self._known(rows)
        followed = {saga.row.saga_id for saga in known}
        others = [row for row in rows if row.saga_id not in followed]
        for row in others:
            row.state, row.waiting, row.deadline_at = SagaState.NEEDS_REVIEW.value, sagas.A_DEFINITION, None
            row.reason = f"this release has no {row.saga_type} version {row.saga_version}"
            row.parked_at = row.parked_at or now
        sagas.save(tx, others, now=now)
        return known

    def _read(self, batch: Sequence[Record], out: _Outgoing) -> list[Reading]:
        """Read what can be read; the rest goes to the tracker's own dead letters, which it reads like any other."""
        readings: list[Reading] = []
        for record in batch:
            try:
                reading = read(record, self._codec, self._definitions)
            except (Undecodable, Unexpected) as error:
                letter = DeadLetter(service=SERVICE, step=None, reason=str(error), attempts=1)
                raw = record.raw
                row_id = derived_id("dead letter", raw.topic, raw.partition, record.offset)
                out.rows.append(dead_letter_row(raw, letter, row_id=row_id))
                log.warning(
                    "A message went to the dead letters.", topic=raw.topic, offset=record.offset, error=str(error)
                )
            else:
                readings.append(reading)
        return readings

    def _follow(self, tx: Connection, readings: Sequence[Reading]) -> dict[str, _Followed]:
        """Return the batch's sagas, stored or new; a dead letter alone does not begin one that nobody knows."""
        saga_ids = {reading.saga_id for reading in readings}
        rows = self._memory.take_sagas(saga_ids)
        if unknown := saga_ids.difference(rows):
            rows |= sagas.load(tx, unknown)
        followed = {saga.row.saga_id: saga for saga in self._known(rows.values())}
        for reading in readings:
            definition = reading.definition
            if reading.saga_id in followed or reading.saga_id in rows or definition is None:
                continue
            row = SagaRow(
                saga_id=reading.saga_id,
                saga_type=definition.name,
                saga_version=definition.version,
                partition=reading.entry.partition or 0,
                progress=NOTHING,
                traceparent=reading.traceparent,
                started_at=reading.entry.occurred_at,
            )
            followed[reading.saga_id] = _Followed(row=row, definition=definition)
        return followed

    def _known(self, rows: Iterable[SagaRow]) -> list[_Followed]:
        found = []
        for row in rows:
            definition = self._definitions.get((row.saga_type, row.saga_version))
            if definition is None:
                log.error("A saga follows a definition that this release does not have.", saga_id=row.saga_id)
                continue
            found.append(_Followed(row=row, definition=definition))
        return found

    def _apply(self, saga: _Followed, reading: Reading, out: _Outgoing) -> None:
        row, definition, entry = saga.row, saga.definition, reading.entry
        fact = reading.fact
        if reading.dead_letter is not None:
            step = step_of(definition, reading.dead_letter)
            fact = fact_of_dead_letter(definition, reading.dead_letter, step=step)
            is_unclear = step is None and decide(definition, row.progress).phase is Phase.ENDED
            out.letters.append(_letter_row(reading, step=step, is_open=is_unclear))
        assert fact is not None, "a message that is no dead letter has its fact"
        refused = isinstance(fact, Cancelled) and _is_refused(definition, row, fact)
        entry.late = is_late(definition, row.progress, fact)
        entry.deadline_at = _deadline_of(row, entry)
        if refused:
            entry.detail = f"{entry.detail} ({REFUSED})"
        out.entries.append(entry)
        if isinstance(fact, Cancelled) and entry.service == CancelSaga.OWNER:
            out.log.append(_log_of(fact, entry))
        if refused:
            return
        row.progress = merge(row.progress, fact)
        if isinstance(fact, Started):
            row.started_at, row.subject = fact.at, reading.subject
        saga.cause, saga.trace = entry.message_id, reading.traceparent

    def _time_out(self, saga: _Followed, out: _Outgoing) -> None:
        row = saga.row
        waiting = decide(saga.definition, row.progress).waiting
        if waiting is None or waiting.key != row.waiting:
            return
        saga.cause = derived_id(row.saga_id, "timer", waiting.key)
        assert row.deadline_at is not None, "it was loaded because its deadline passed"
        out.entries.append(
            Entry(
                saga_id=row.saga_id,
                message_id=saga.cause,
                occurred_at=row.deadline_at,
                kind="timer",
                type=type(waiting.timer).__name__,
                service=SERVICE,
                step=_step_of(saga.definition, waiting.timer),
                attempt=None if isinstance(waiting.timer, TimedOut) else waiting.timer.attempt,
                deadline_at=row.deadline_at,
                detail=f"{waiting.key}: nothing came in time",
                partition=row.partition,
            )
        )
        row.progress = merge(row.progress, waiting.timer)

    def _finish(self, tx: Connection, followed: Collection[_Followed], out: _Outgoing, now: datetime) -> None:
        # 4.
        unclear: list[str] = []
        for saga in followed:
            decision = decide(saga.definition, saga.row.progress)
            if self._settle(saga, decision, now) and decision.state is SagaState.CONFIRMED and saga.row.progress.unread:
                unclear.append(saga.row.saga_id)
            self._issue(saga, decision, out, now)
        # 5.
        dead_letters.save(tx, out.letters, now=now)
        dead_letters.open_unclear(tx, unclear)
        plans.log(tx, out.log)
        rows = [saga.row for saga in followed]
        timeline.insert(tx, out.entries, now=now)
        outbox.save(tx, out.rows)
        sagas.save(tx, rows, now=now)
        event.listen(tx, "commit", lambda _: saga_metrics.recorded(out.entries, rows, now), once=True)

    def _settle(self, saga: _Followed, decision: Decision, now: datetime) -> bool:
        """Write the decision into the row, and say whether the saga has ended with it.

        A deadline runs on as long as the saga waits for the same.
        """
        row = saga.row
        ends = decision.phase is Phase.ENDED and row.finished_at is None
        row.state, row.phase, row.step = decision.state.value, decision.phase.value, decision.step
        row.cause = decision.failure.cause.value if decision.failure else None
        row.reason = decision.reason
        if ends:
            row.finished_at = now
        row.parked_at = (row.parked_at or now) if decision.parked is not None else None
        waiting = decision.waiting
        if waiting is None:
            row.waiting = row.deadline_at = None
        elif waiting.key != row.waiting:
            row.waiting = waiting.key
            row.deadline_at = now + self._span(waiting.timeout_s)
            if waiting.within_deadline:
                row.deadline_at = min(row.deadline_at, self._whole(saga))

        return ends

    def _issue(self, saga: _Followed, decision: Decision, out: _Outgoing, now: datetime) -> None:
        for issue in issues(saga.definition, saga.row, decision, causation_id=saga.cause, now=now):
            self._send(saga, issue, decision.reason, out, now)

    def _send(self, saga: _Followed, issue: Issue, detail: str | None, out: _Outgoing, now: datetime) -> None:
        row, message = saga.row, issue.message
        parent = saga.trace or row.traceparent
        context = None if parent is None else parent.encode()
        out.rows.append(
            OutboxRow(
                id=message.message_id,
                topic=issue.topic,
                saga_id=row.saga_id,
                type=message.FULL_NAME,
                payload=self._codec.encode(issue.topic, message),
                headers=headers(message, source=SERVICE, traceparent=child_traceparent(context)),
                partition=row.partition,
                cause=() if context is None else ((TRACEPARENT, context),),
            )
        )
        out.entries.append(
            Entry(
                saga_id=row.saga_id,
                message_id=message.message_id,
                occurred_at=now,
                kind=issue.kind,
                type=name_of(type(message)),
                service=SERVICE,
                step=issue.step,
                attempt=issue.attempt,
                causation_id=saga.cause,
                deadline_at=row.deadline_at if issue.kind == "command" else None,
                detail=detail,
                topic=issue.topic,
                partition=row.partition,
            )
        )


def new_records(
    batch: Iterable[Record], stored: Mapping[TopicPartition, int]
) -> tuple[list[Record], dict[TopicPartition, int]]:
    """Return the records at and after the stored offsets, and where their partitions go on.

    Raises OffsetGap where one is missing in between, or where its partition has no stored offset.
    """
    offsets = dict(stored)
    fresh: list[Record] = []
    for record in batch:
        topic, partition = record.place
        expected = offsets.get(record.place)
        if expected is None or record.offset > expected:
            raise OffsetGap(
                f"{topic}[{partition}] goes on at {record.offset} instead of {expected}. The worker begins again from "
                f"the stored offset; if Kafka has deleted what lies there, an operator has to decide about it."
            )
        if record.offset == expected:
            offsets[record.place] = expected + 1
            fresh.append(record)
    return fresh, offsets


def _orphan(row: SagaRow) -> str:
    if row.waiting == sagas.A_DEFINITION:
        return "its definition is known again"
    if row.state == SagaState.NEEDS_REVIEW:
        return "it was parked without a reason"
    return "it was under way without a deadline" if row.deadline_at is None else "its deadline was out of all bounds"


def _letter_row(reading: Reading, *, step: str | None, is_open: bool) -> LetterRow:
    letter, entry = reading.dead_letter, reading.entry
    assert letter is not None, "it was read from a dead-letter topic"
    assert entry.topic is not None, "it was read from Kafka"
    assert entry.partition is not None, "it was read from Kafka"
    assert entry.offset is not None, "it was read from Kafka"
    return LetterRow(
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        letter_id=letter.letter_id,
        message_id=letter.message_id,
        saga_id=reading.saga_id,
        service=letter.service,
        step=step,
        type=entry.type,
        reason=letter.reason,
        redrive=letter.redrive,
        is_open=is_open,
    )


def _log_of(fact: Cancelled, entry: Entry) -> LogEntry:
    """Return a cancellation by staff for the operators' log; the customers' are no acts of ours."""
    return LogEntry(
        act_id=entry.message_id,
        at=entry.occurred_at,
        actor=fact.by,
        act="CANCEL",
        reason=fact.reason,
        saga_id=entry.saga_id,
        detail=REFUSED if entry.detail is not None and entry.detail.endswith(f"({REFUSED})") else None,
    )


def _is_refused(definition: SagaDefinition, row: SagaRow, fact: Fact) -> bool:
    """A cancellation that was accepted before stays accepted when it is delivered again."""
    return not admits(definition, row.progress, fact) and merge(row.progress, fact) != row.progress


def _deadline_of(row: SagaRow, entry: Entry) -> datetime | None:
    """Return the deadline that this message meets or misses; None where the saga did not wait for it."""
    awaited = entry.step or (FENCE if entry.kind == "reply" else None)
    is_awaited = awaited is not None and row.waiting is not None and row.waiting.startswith(f"{awaited} ")
    return row.deadline_at if is_awaited else None


def _step_of(definition: SagaDefinition, timer: Timer) -> str | None:
    name = timer.step if isinstance(timer, TimedOut) else timer.round_
    return name if any(step.name == name for step in definition.steps) else None
