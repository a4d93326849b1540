"""Rebuilds the tracker's database from everything that Kafka has, without sending anything that was sent before.

1. :meth:`Rebuild.record` records messages of all topics, also of those on which the tracker sends, and decides nothing:
   on part of the facts it would send what must not be sent.
2. :meth:`Rebuild.conclude` decides about every saga once all is recorded. Only what no topic has is sent then.

What is known of a saga is a function of the set of its facts, so the order of the topics does not matter for it. The
order of the times is used, so that timelines read as they did. It must never use Kafka or a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import Connection

from chassis.wire.codec import Codec, Undecodable
from messages.saga import CancellationDecided, CancelSaga, OperatorActed
from saga_tracker.ingest.dead_letter_decoding import DecodedDeadLetter
from saga_tracker.ingest.decisions import log_entries_of
from saga_tracker.ingest.decoding import DecodedDecision, DecodedMessage, DecodedRecord, decode
from saga_tracker.ingest.outgoing import END, redrive_of_unknown_step
from saga_tracker.ingest.recorder import (
    REFUSED,
    add_entry,
    cancellation_log_entry,
    new_records,
    record_cancellation,
    record_dead_letter,
    record_message,
    sagas_of,
)
from saga_tracker.ingest.records import Record, Unexpected
from saga_tracker.ingest.sent_messages import FailedEnd, SentMessage, decode_sent, sent_topics
from saga_tracker.ingest.tracked_saga import TrackedSaga, track, with_letters
from saga_tracker.ingest.unit_of_work import UnitOfWork
from saga_tracker.model.decision import Cause, Phase
from saga_tracker.model.facts import Cancelled, TimedOut
from saga_tracker.model.operating import marked
from saga_tracker.model.saga import Definitions
from saga_tracker.store import consumed_offsets, dead_letters, sagas
from saga_tracker.store.plans import ActKind

log = structlog.get_logger()


@dataclass(slots=True)
class Rebuilt:
    """How many sagas were rebuilt, and those whose last event on Kafka is not the one that follows from their facts."""

    count: int = 0
    different: list[str] = field(default_factory=list)


class Rebuild:
    """One rebuild, for the sagas with these definitions.

    In memory are requests to cancel, the decisions about them, the last events of sagas that failed, and redrives of
    messages of no known step.
    """

    def __init__(self, definitions: Definitions, codec: Codec, *, reference_key: bytes | None = None) -> None:
        self._reference_key = reference_key
        self._definitions = definitions
        self._codec = codec
        self._sent_topics = frozenset(sent_topics(definitions))
        self._requests: dict[str, DecodedMessage] = {}
        self._decided: dict[str, bool] = {}
        self._failed: dict[str, FailedEnd] = {}
        self._redrives: dict[str, list[OperatorActed]] = {}
        self._redriven: set[str] = set()

    def record(self, tx: Connection, batch: Sequence[Record], *, now: datetime) -> None:
        """Record a batch that is in the order of each partition. ``now`` is the time of its last message."""
        partitions = {record.topic_partition for record in batch}
        stored = consumed_offsets.lock(tx, partitions)
        new, offsets = new_records(batch, stored)
        check_offsets = consumed_offsets.move(tx, stored, offsets)
        unit_of_work = UnitOfWork(self._codec, now=now)
        decoded = [each for record in new if (each := self._decode(record)) is not None]
        tracked = sagas_of(tx, self._definitions, decoded, {})
        resolved: list[tuple[str, str, str]] = []
        for each in decoded:
            saga = tracked.get(each.saga_id)
            if isinstance(each, DecodedDeadLetter):
                record_dead_letter(saga, each, unit_of_work)
            elif saga is None:
                continue
            elif isinstance(each, SentMessage):
                self._record_sent(saga, each, unit_of_work)
            elif isinstance(each, DecodedDecision):
                self._record_decision(saga, each, unit_of_work)
                resolved += _resolved_by(each)
            elif isinstance(each.fact, Cancelled):
                self._record_request(saga, each, unit_of_work)
            else:
                record_message(saga, each, unit_of_work)
        for saga in tracked.values():
            saga.row.phase = ""
        unit_of_work.save(tx, tracked.values(), decides=False)
        dead_letters.resolve(tx, resolved, dead_letters.REDRIVEN, now=now)
        check_offsets()

    def conclude(self, tx: Connection, rebuilt: Rebuilt, *, after: str, limit: int, now: datetime) -> str | None:
        """Decide about the next sagas, and put what was never sent into the outbox.

        Returns the last saga's id, or None where none is left.
        """
        rows = sagas.load_undecided(tx, after=after, limit=limit)
        if not rows:
            return None
        unit_of_work = UnitOfWork(self._codec, now=now)
        requests = self._undecided_requests()
        tracked = track(self._definitions, rows)
        for saga in tracked:
            row = saga.row
            row.waiting = None
            if END in row.issued:
                row.progress = marked(row.progress)  # one before the end would have frozen the saga, or decided nothing
                self._explain_end(saga, requests.get(row.saga_id, ()), unit_of_work)
                if self._differs(saga):
                    rebuilt.different.append(row.saga_id)
            else:
                row.finished_at = None
                for request in requests.get(row.saga_id, ()):
                    assert isinstance(request.fact, Cancelled), "only requests to cancel are kept"
                    record_cancellation(saga, request, request.fact, unit_of_work)
            self._send_redrives(saga, unit_of_work)
        unit_of_work.save(tx, tracked)
        ended = [saga for saga in tracked if saga.decision.phase is Phase.ENDED]
        dead_letters.open_unowned(tx, with_letters(ended))
        rebuilt.count += len(tracked)
        return rows[-1].saga_id

    def _decode(self, record: Record) -> DecodedRecord | SentMessage | None:
        """Decode a record; None for one that is no message, which has a dead letter of its own on Kafka."""
        try:
            if record.raw.topic in self._sent_topics:
                return decode_sent(record, self._codec, self._definitions)
            return decode(record, self._codec, self._definitions, self._reference_key)
        except (Undecodable, Unexpected):
            return None

    def _record_sent(self, saga: TrackedSaga, sent: SentMessage, unit_of_work: UnitOfWork) -> None:
        unit_of_work.entries.append(sent.entry)
        row = saga.row
        if sent.key is not None:
            row.issued[sent.key] = max(sent.attempt, row.issued.get(sent.key, 0))
        else:
            self._redriven.add(sent.entry.message_id)
        if sent.key == END:
            row.finished_at = sent.occurred_at
            if sent.failed is not None:
                self._failed[row.saga_id] = sent.failed

    def _record_decision(self, saga: TrackedSaga, decision: DecodedDecision, unit_of_work: UnitOfWork) -> None:
        message = decision.message
        if decision.fact is not None:
            saga.add(decision.fact)
        if saga.row.pending == message.message_id:
            saga.row.pending = None
        if decision.entry is not None:
            unit_of_work.entries.append(decision.entry)
        if isinstance(message, OperatorActed):
            unit_of_work.log_entries += log_entries_of(message)
            if message.redrives:
                self._redrives.setdefault(saga.row.saga_id, []).append(message)
        if isinstance(message, CancellationDecided):
            self._decided[message.request_id] = message.accepted
            if (request := self._requests.pop(message.request_id, None)) is not None:
                _record_decided(saga, request, unit_of_work, is_accepted=message.accepted)

    def _record_request(self, saga: TrackedSaga, request: DecodedMessage, unit_of_work: UnitOfWork) -> None:
        """Keep a request to cancel until the decision about it comes; its timeline entry shows the decision."""
        request_id = request.entry.message_id
        if request_id in self._decided:
            _record_decided(saga, request, unit_of_work, is_accepted=self._decided[request_id])
        else:
            self._requests[request_id] = request

    def _send_redrives(self, saga: TrackedSaga, unit_of_work: UnitOfWork) -> None:
        """Send the redrives of messages of no known step that are decided and on no topic."""
        for act in self._redrives.get(saga.row.saga_id, ()):
            saga.cause = act.message_id
            for each in act.redrives:
                command = redrive_of_unknown_step(saga.row, each.service, each.number, act, unit_of_work.now)
                if command.message.message_id not in self._redriven:
                    unit_of_work.send(saga, command, None)
        saga.cause = None

    def _undecided_requests(self) -> dict[str, list[DecodedMessage]]:
        found: dict[str, list[DecodedMessage]] = {}
        for request in self._requests.values():
            found.setdefault(request.saga_id, []).append(request)
        return found

    def _explain_end(self, saga: TrackedSaga, requests: Sequence[DecodedMessage], unit_of_work: UnitOfWork) -> None:
        """Add the facts of a release that kept its decisions in its database alone, as the last event has them."""
        failed = self._failed.get(saga.row.saga_id)
        for request in requests:
            fact = request.fact
            assert isinstance(fact, Cancelled), "only requests to cancel are kept"
            cancelled_by = failed.reason if failed is not None and failed.cause == Cause.CANCELLED else None
            is_accepted = not saga.lacks(fact) or cancelled_by == f"{fact.by}: {fact.reason}"
            if is_accepted:
                saga.add(fact)
            _record_decided(saga, request, unit_of_work, is_accepted=is_accepted)
        if failed is None or not self._differs(saga):
            return
        if failed.cause == Cause.TIMED_OUT:
            saga.add(TimedOut(step=failed.step))
        elif failed.cause == Cause.CANCELLED:
            by, _, reason = failed.reason.partition(": ")
            saga.add(Cancelled(at=saga.row.finished_at or unit_of_work.now, by=by, reason=reason))

    def _differs(self, saga: TrackedSaga) -> bool:
        """Return whether the last event of a saga is another one than the one that follows from its facts."""
        decision, failed = saga.decision, self._failed.get(saga.row.saga_id)
        if decision.phase is not Phase.ENDED or (decision.failure is None) != (failed is None):
            return True
        return decision.failure is not None and failed is not None and decision.failure.cause.value != failed.cause


def _record_decided(saga: TrackedSaga, request: DecodedMessage, unit_of_work: UnitOfWork, *, is_accepted: bool) -> None:
    entry, fact = request.entry, request.fact
    assert isinstance(fact, Cancelled), "only requests to cancel are kept"
    if not is_accepted:
        entry.detail = f"{entry.detail} ({REFUSED})"
    add_entry(saga, entry, fact, unit_of_work)
    if entry.service == CancelSaga.OWNER:
        unit_of_work.log_entries.append(cancellation_log_entry(fact, entry, is_refused=not is_accepted))


def _resolved_by(decision: DecodedDecision) -> list[tuple[str, str, str]]:
    """Return the saga whose dead letters a redrive resolved, with who and why."""
    message = decision.message
    if isinstance(message, OperatorActed) and message.act == ActKind.REDRIVE:
        return [(message.saga_id, message.actor, message.reason)]
    return []
