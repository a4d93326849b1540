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
from messages.contract import name_of
from saga_tracker import saga_metrics
from saga_tracker.ingest.outgoing import OutgoingMessage, outgoing_messages
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.model.progress import SagaState
from saga_tracker.model.saga import SERVICE
from saga_tracker.store import dead_letters, plans, sagas, timeline
from saga_tracker.store.dead_letters import LetterRow
from saga_tracker.store.plans import LogEntry
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

    def save(self, tx: Connection, tracked: Collection[TrackedSaga]) -> None:
        """Decide about these sagas, add what follows, and save everything. Raises Overtaken."""
        confirmed_with_letters: list[str] = []
        for saga in tracked:
            decision = saga.decision
            ends = saga.apply(decision, self.now)
            if ends and decision.state is SagaState.CONFIRMED and saga.row.progress.unresolved_letters:
                confirmed_with_letters.append(saga.row.saga_id)
            for outgoing in outgoing_messages(saga, decision, now=self.now):
                self.send(saga, outgoing, decision.reason)
        dead_letters.save(tx, self.dead_letters, now=self.now)
        dead_letters.open_without_step(tx, confirmed_with_letters)
        plans.log(tx, self.log_entries)
        rows = [saga.row for saga in tracked]
        timeline.insert(tx, self.entries, now=self.now)
        outbox.save(tx, self.outbox_rows)
        sagas.save(tx, rows, now=self.now)
        event.listen(tx, "commit", lambda _: saga_metrics.count(self.entries, rows, self.now), once=True)

    def send(self, saga: TrackedSaga, outgoing: OutgoingMessage, detail: str | None) -> None:
        """Add a message of a saga to the outbox and to its timeline."""
        row, message = saga.row, outgoing.message
        parent = saga.trace or row.traceparent
        context = None if parent is None else parent.encode()
        self.outbox_rows.append(
            OutboxRow(
                id=message.message_id,
                topic=outgoing.topic,
                saga_id=row.saga_id,
                type=message.FULL_NAME,
                payload=self._codec.encode(outgoing.topic, message),
                headers=headers(message, source=SERVICE, traceparent=child_traceparent(context)),
                partition=row.partition,
                cause=() if context is None else ((TRACEPARENT, context),),
            )
        )
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
