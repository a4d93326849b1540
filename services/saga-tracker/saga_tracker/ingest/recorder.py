"""Records a batch in one transaction: offsets, timelines, sagas and what follows from them.

The order of the steps is the protocol:

1. The stored offsets advance past the batch, unless another worker has advanced them. Messages before the stored
   offsets are recorded already and are skipped, so a worker that lost its partition does no harm. A gap behind the
   stored offsets raises OffsetGap.
2. The batch's sagas are taken from the cache, or loaded.
3. Each message adds its fact to its saga, in the order of arrival. A decision of the tracker's own that is read back
   adds nothing new: what it leads to may now be sent.
4. One decision is made for each saga. Commands and last events go into the outbox, deadlines into the saga.
5. Timeline, sagas and outbox are saved, unless another worker has stored one of the sagas. The caller's transaction
   commits, and only then may rows be published.

It must never use Kafka, Faust or a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog
from sqlalchemy import Connection

from chassis.saga.dead_letters import DeadLetter, dead_letter_row
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec, Undecodable
from chassis.wire.envelope import derived_id
from messages.saga import CancelSaga, OperatorActed
from saga_tracker.ingest.dead_letter_decoding import DecodedDeadLetter
from saga_tracker.ingest.decisions import cancellation_decided, entry_id_of
from saga_tracker.ingest.decoding import DecodedDecision, DecodedMessage, DecodedRecord, decode
from saga_tracker.ingest.outgoing import redrive_of_unknown_step
from saga_tracker.ingest.records import Record, Unexpected
from saga_tracker.ingest.tracked_saga import TrackedSaga, track
from saga_tracker.ingest.unit_of_work import UnitOfWork
from saga_tracker.model.decision import Phase
from saga_tracker.model.facts import NOTHING, Cancelled, Fact, Started
from saga_tracker.model.saga import SERVICE, Definitions, SagaDefinition
from saga_tracker.store import consumed_offsets, sagas, timeline
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.consumed_offsets import TopicPartition
from saga_tracker.store.operator_log import LogEntry
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.timeline import Entry

REFUSED = "refused, the saga had ended"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBatch:
    """The rows of a batch to publish after its commit, the next offset of each partition, and its sagas."""

    rows: list[OutboxRow]
    offsets: dict[TopicPartition, int]
    sagas: list[SagaRow]


class OffsetGap(Exception):
    """A batch does not begin where the last one ended. Messages would be lost, so the worker must stop."""


class UnknownDecision(Exception):
    """Kafka has a decision that this database did not make: it was restored. The worker must not go on from here."""


class Recorder:
    """Records batches of the sagas with these definitions. All recording of a process shares one ``cache``.

    ``reference_key`` hashes personal references. Without it none is stored.
    """

    def __init__(
        self, definitions: Definitions, codec: Codec, cache: SagaCache, *, reference_key: bytes | None = None
    ) -> None:
        self._definitions = definitions
        self._reference_key = reference_key
        self._codec = codec
        self._cache = cache

    def begin(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Continue at these offsets, which were just loaded; everything that was cached before is invalid."""
        self._cache.reset(offsets)

    def record(self, tx: Connection, batch: Sequence[Record], *, now: datetime) -> RecordedBatch:
        """Record a batch that is in the order of each partition.

        After the commit, pass the result to :meth:`committed`. Raises Overtaken: record the same batch again, and it
        is recorded from what PostgreSQL has. Raises OffsetGap where messages were lost before this call.
        """
        # 1.
        partitions = {record.topic_partition for record in batch}
        stored = self._cache.take_offsets(partitions) or consumed_offsets.lock(tx, partitions)
        new, offsets = new_records(batch, stored)
        check_offsets = consumed_offsets.move(tx, stored, offsets)
        unit_of_work = UnitOfWork(self._codec, now=now)
        decoded = self._decode(new, unit_of_work)
        # 2.
        _check_own(tx, [each for each in decoded if isinstance(each, DecodedDecision)])
        cached = self._cache.take_sagas({each.saga_id for each in decoded})
        tracked = sagas_of(tx, self._definitions, decoded, cached)
        # 3.
        for each in decoded:
            saga = tracked.get(each.saga_id)
            if isinstance(each, DecodedDeadLetter):
                record_dead_letter(saga, each, unit_of_work)
            elif saga is None:
                continue
            elif isinstance(each, DecodedDecision):
                _record_own_decision(saga, each, unit_of_work)
            elif isinstance(each.fact, Cancelled):
                record_cancellation(saga, each, each.fact, unit_of_work)
            else:
                record_message(saga, each, unit_of_work)
        # 4. and 5.
        changed = {each.saga_id for each in decoded if not leads_to_nothing(each)}
        unit_of_work.save(tx, [saga for saga_id, saga in tracked.items() if saga_id in changed])
        check_offsets()
        return RecordedBatch(
            rows=unit_of_work.outbox_rows, offsets=offsets, sagas=[saga.row for saga in tracked.values()]
        )

    def committed(self, recorded: RecordedBatch) -> None:
        """Cache a batch that was committed."""
        self._cache.keep(recorded.offsets, recorded.sagas)

    def _decode(self, records: Sequence[Record], unit_of_work: UnitOfWork) -> list[DecodedRecord]:
        """Decode what can be decoded. The rest becomes a dead letter of the tracker, which it consumes like any."""
        decoded: list[DecodedRecord] = []
        for record in records:
            try:
                decoded.append(decode(record, self._codec, self._definitions, self._reference_key))
            except (Undecodable, Unexpected) as error:
                raw, reason = record.raw, str(error)
                letter = DeadLetter(service=SERVICE, step=None, reason=reason, attempts=1)
                row_id = derived_id("dead letter", raw.topic, raw.partition, record.offset)
                unit_of_work.outbox_rows.append(dead_letter_row(raw, letter, row_id=row_id))
                log.warning("A message was dead-lettered.", topic=raw.topic, offset=record.offset, error=reason)
        return decoded


class FirstOfSaga(Protocol):
    """What a saga can begin with: anything that was recorded for it first. Without a definition it begins none."""

    @property
    def saga_id(self) -> str: ...
    @property
    def definition(self) -> SagaDefinition | None: ...
    @property
    def partition(self) -> int: ...
    @property
    def occurred_at(self) -> datetime: ...
    @property
    def traceparent(self) -> str | None: ...


def sagas_of(
    tx: Connection, definitions: Definitions, decoded: Sequence[FirstOfSaga], cached: Mapping[str, SagaRow]
) -> dict[str, TrackedSaga]:
    """Return the sagas of a batch: cached, stored or new. A dead letter of an unknown definition begins no saga."""
    rows = dict(cached)
    if missing := {each.saga_id for each in decoded}.difference(rows):
        rows |= sagas.load(tx, missing)
    tracked = {saga.row.saga_id: saga for saga in track(definitions, rows.values())}
    for each in decoded:
        definition = each.definition
        if each.saga_id in tracked or each.saga_id in rows or definition is None:
            continue
        row = SagaRow(
            saga_id=each.saga_id,
            saga_type=definition.name,
            saga_version=definition.version,
            partition=each.partition,
            progress=NOTHING,
            traceparent=each.traceparent,
            started_at=each.occurred_at,
        )
        tracked[each.saga_id] = TrackedSaga(row=row, definition=definition)
    return tracked


def new_records(
    batch: Iterable[Record], stored: Mapping[TopicPartition, int]
) -> tuple[list[Record], dict[TopicPartition, int]]:
    """Return the records at and after the stored offsets, and the next offset of each partition.

    Raises OffsetGap where a record is missing in between, or where its partition has no stored offset.
    """
    offsets = dict(stored)
    new: list[Record] = []
    for record in batch:
        topic, partition = record.topic_partition
        expected = offsets.get(record.topic_partition)
        if expected is None or record.offset > expected:
            raise OffsetGap(
                f"{topic}[{partition}] continues at {record.offset} instead of {expected}. The worker restarts from "
                f"the stored offset. If Kafka has deleted the messages there, an operator has to decide what to do."
            )
        if record.offset == expected:
            offsets[record.topic_partition] = expected + 1
            new.append(record)
    return new, offsets


def record_dead_letter(saga: TrackedSaga | None, letter: DecodedDeadLetter, unit_of_work: UnitOfWork) -> None:
    """Store a dead letter, and add its fact where its saga is known. It is open where no saga is responsible for it."""
    if saga is None:
        unit_of_work.dead_letters.append(letter.row(step=letter.entry.step, is_open=True))
        return
    fact = letter.fact_in(saga.definition)
    step, service = letter.step_in(saga.definition), letter.entry.service
    is_behind = letter.entry.topic == f"{service}.dlq" and service in saga.definition.reacting_services
    is_open = saga.decision.phase is Phase.ENDED and (step is None or is_behind)
    unit_of_work.dead_letters.append(letter.row(step=None if is_open else step, is_open=is_open))
    add_entry(saga, letter.entry, fact, unit_of_work)
    _add_fact(saga, letter, fact)


def record_message(saga: TrackedSaga, message: DecodedMessage, unit_of_work: UnitOfWork) -> None:
    """Add a message to its saga's timeline and its fact to the saga."""
    fact = message.fact
    add_entry(saga, message.entry, fact, unit_of_work)
    _add_fact(saga, message, fact)
    unit_of_work.references += message.references
    if isinstance(fact, Started):
        saga.row.started_at, saga.row.subject = fact.at, message.subject


def record_cancellation(
    saga: TrackedSaga, message: DecodedMessage, request: Cancelled, unit_of_work: UnitOfWork
) -> None:
    """Add a request to cancel to its saga's timeline, and decide whether it is accepted.

    It depends on what was recorded before, so the decision itself goes to Kafka.
    """
    entry, is_refused = message.entry, saga.refuses(request)
    if is_refused:
        entry.detail = f"{entry.detail} ({REFUSED})"
    add_entry(saga, entry, request, unit_of_work)
    if entry.service == CancelSaga.OWNER:
        unit_of_work.log_entries.append(cancellation_log_entry(request, entry, is_refused=is_refused))
    if not saga.lacks(request):
        return
    if not is_refused:
        _add_fact(saga, message, request)
    decision = cancellation_decided(saga, request, entry.message_id, is_accepted=not is_refused, now=unit_of_work.now)
    unit_of_work.record_decision(saga, decision, is_awaited=not is_refused)


def _record_own_decision(saga: TrackedSaga, decision: DecodedDecision, unit_of_work: UnitOfWork) -> None:
    """Let the saga send what follows from a decision of the tracker's own, which Kafka has now."""
    message = decision.message
    saga.cause, saga.trace = entry_id_of(message), decision.traceparent
    if decision.fact is not None:
        saga.add(decision.fact)
    if saga.row.pending == message.message_id:
        saga.row.pending = None
    if isinstance(message, OperatorActed):
        for each in message.redrives:
            command = redrive_of_unknown_step(saga.row, each.service, each.number, message, unit_of_work.now)
            unit_of_work.send(saga, command, None)


def leads_to_nothing(record: DecodedRecord) -> bool:
    """Return whether a record is a decision that is read back and changes nothing, such as an operator's note.

    Its saga keeps its revision. Otherwise an operator's next act would be skipped, because the saga changed meanwhile.
    """
    if not isinstance(record, DecodedDecision) or record.fact is not None:
        return False
    return not (isinstance(record.message, OperatorActed) and record.message.redrives)


def _check_own(tx: Connection, read_back: Sequence[DecodedDecision]) -> None:
    """Raise UnknownDecision unless the database has each decision that was read back."""
    if not read_back:
        return
    entries = [(each.saga_id, entry_id_of(each.message)) for each in read_back]
    known = timeline.known(tx, entries)
    if unknown := [saga_id for saga_id, entry_id in entries if entry_id not in known]:
        raise UnknownDecision(
            f"Kafka has a decision about saga {unknown[0]} that this database did not make, so the database is older "
            f"than Kafka, or empty. Rebuild it before the tracker acts on it: docs/operations.md, 'Rebuilding the "
            f"tracker'."
        )


def add_entry(saga: TrackedSaga, entry: Entry, fact: Fact, unit_of_work: UnitOfWork) -> None:
    entry.late = saga.is_late(fact)
    entry.deadline_at = saga.awaited_deadline(entry)
    unit_of_work.entries.append(entry)


def _add_fact(saga: TrackedSaga, decoded: DecodedMessage | DecodedDeadLetter, fact: Fact) -> None:
    saga.add(fact)
    saga.cause, saga.trace = decoded.entry.message_id, decoded.traceparent


def cancellation_log_entry(fact: Cancelled, entry: Entry, *, is_refused: bool) -> LogEntry:
    """Return a cancellation by staff for the operators' log. A customer's is not logged."""
    return LogEntry(
        act_id=entry.message_id,
        at=entry.occurred_at,
        actor=fact.by,
        act="CANCEL",
        reason=fact.reason,
        saga_id=entry.saga_id,
        detail=REFUSED if is_refused else None,
    )
