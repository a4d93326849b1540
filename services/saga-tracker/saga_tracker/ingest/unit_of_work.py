"""What one transaction writes, as it gathers; each table is then written once.

It decides what follows for each saga and saves it. The caller owns the transaction, and publishes after its commit.
It must never decode a record or read a clock.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, event

from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import TRACEPARENT, child_traceparent, headers
from messages.contract import Message, name_of
from messages.saga import RedriveStep
from saga_tracker import saga_metrics
from saga_tracker.ingest.decisions import OwnDecision, entry_of
from saga_tracker.ingest.outgoing import OutgoingMessage, outgoing_messages
from saga_tracker.ingest.tracked_saga import TrackedSaga, with_letters
from saga_tracker.model.references import Reference
from saga_tracker.model.saga import DECISIONS_TOPIC, SERVICE
from saga_tracker.store import dead_letters, operator_log, references, sagas, timeline
from saga_tracker.store.dead_letters import LetterRow
from saga_tracker.store.operator_log import LogEntry
from saga_tracker.store.timeline import Entry


class UnitOfWork:
    """The timeline entries, outbox rows, dead letters and log entries of one transaction at ``now``."""

    def __init__(self, codec: Codec, *, now: datetime) -> None:
        self._codec = codec
        self.now = now
        self.entries: list[Entry] = []
        self.outbox_rows: list[OutboxRow] = []
        self.dead_letters: list[LetterRow] = []
        self.log_entries: list[LogEntry] = []
        self.references: list[Reference] = []

    def save(self, tx: Connection, tracked: Collection[TrackedSaga], *, decides: bool = True) -> None:
        """Decide about these sagas, add what follows, and save everything. Raises Overtaken.

        A rebuild, which has not read everything yet, ``decides`` nothing.
        """
        ended: list[TrackedSaga] = []
        for saga in tracked if decides else ():
            decision = saga.decision
            ends = saga.apply(decision, self.now)
            if ends:
                ended.append(saga)
            if saga.row.pending is None:
                for outgoing in outgoing_messages(saga, decision, now=self.now):
                    is_redrive = isinstance(outgoing.message, RedriveStep)  # the operator's act has its reason
                    self.send(saga, outgoing, None if is_redrive else decision.reason)
        dead_letters.save(tx, self.dead_letters, now=self.now)
        dead_letters.open_unowned(tx, with_letters(ended))
        operator_log.log(tx, self.log_entries)
        references.save(tx, self.references)
        rows = [saga.row for saga in tracked]
        timeline.insert(tx, self.entries, now=self.now)
        outbox.save(tx, self.outbox_rows)
        sagas.save(tx, rows, now=self.now)
        event.listen(tx, "commit", lambda _: saga_metrics.count(self.entries, rows, self.now), once=True)

    def record_decision(self, saga: TrackedSaga, message: OwnDecision, *, is_awaited: bool) -> None:
        """Add a decision of the tracker about a saga to the outbox, and to the saga's timeline.

        If it ``is_awaited``, the saga sends nothing until the decision is read back.
        """
        self.outbox_rows.append(self._outbox_row(saga, DECISIONS_TOPIC, message))
        if (entry := entry_of(message, saga.row.partition)) is not None:
            self.entries.append(entry)
        if is_awaited:
            saga.row.pending = message.message_id

    def send(self, saga: TrackedSaga, outgoing: OutgoingMessage, detail: str | None) -> None:
        """Add a message of a saga to the outbox and to its timeline."""
        row, message = saga.row, outgoing.message
        self.outbox_rows.append(self._outbox_row(saga, outgoing.topic, message))
        self.entries.append(
            Entry(
                saga_id=row.saga_id,
                message_id=message.message_id,
                occurred_at=self.now,
                kind=outgoing.kind,
                type=name_of(type(message)),
                service=SERVICE,
                step=outgoing.step,
                attempt=outgoing.attempt,
                causation_id=saga.cause,
                deadline_at=row.deadline_at if outgoing.kind == "command" else None,
                detail=detail,
                topic=outgoing.topic,
                partition=row.partition,
            )
        )

    def _outbox_row(self, saga: TrackedSaga, topic: str, message: Message) -> OutboxRow:
        parent = saga.trace or saga.row.traceparent
        context = None if parent is None else parent.encode()
        return OutboxRow(
            id=message.message_id,
            topic=topic,
            saga_id=saga.row.saga_id,
            type=message.FULL_NAME,
            payload=self._codec.encode(topic, message),
            headers=headers(message, source=SERVICE, traceparent=child_traceparent(context)),
            partition=saga.row.partition,
            cause=() if context is None else ((TRACEPARENT, context),),
        )
