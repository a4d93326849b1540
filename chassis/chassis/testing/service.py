"""One saga in one service, on a real database and without Kafka: messages go in, and what is published comes out.

Its clock stands still until a test moves it, by seconds or by months. Nothing is called or published by itself: a test
makes the planned call with :meth:`ServiceUnderTest.call`, or loses it as a crash would.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

from chassis.http.downstream import Unavailable
from chassis.saga import attempt_rows, deferred, evidence
from chassis.saga.announced_calls import answer_to
from chassis.saga.attempts import Outcome, attempt_key
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.evidence import Claim, Received, Source, StoredEvidence
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Work
from chassis.saga.unit_of_work import AwaitedPendingCall, AwaitedResult, Delivery, Outgoing
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
PARTITION = 1
DUE_MAX = 100
DEAD_LETTERS = ".dlq"


@dataclass(kw_only=True)
class ServiceUnderTest:
    """A service with these handlers, for the saga with this id. Its database has the chassis' tables and its own.

    ``published`` are its messages so far, ``letters`` the topics of its dead letters, ``calls`` the planned calls about
    attempts whose outcome comes later, ``read`` the messages that it was given.
    """

    name: str
    engine: Engine
    handlers: Handlers
    codec: Codec
    now: datetime = BEGINNING
    saga_id: str = field(default_factory=new_id)
    calls: list[AwaitedPendingCall] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    read: list[tuple[RawMessage, Message]] = field(default_factory=list)

    def deliver(self, message: Message) -> list[Message]:
        """Handle a message of the saga, and return what is published because of it."""
        is_command = type(message) in self.handlers.commands
        topic = f"{self.name}.commands" if is_command else f"{type(message).OWNER}.events"
        raw = RawMessage(
            topic=topic,
            partition=PARTITION,
            key=message.saga_id.encode(),
            value=self.codec.encode(topic, message),
            headers=(),
        )
        self.read.append((raw, message))
        delivery = Delivery(message=message, raw=raw)
        return self.work(Work(deliveries=[(name, delivery) for name in self.handlers.handling(message)]))

    def call(self) -> list[Message]:
        """Make the one planned call, settle what comes of it, and return what is published because of it."""
        (pending,) = self.calls
        self.calls.clear()
        try:
            result = AwaitedResult(call=pending, answer=answer_to(pending))
        except Unavailable as failure:
            result = AwaitedResult(call=pending, failure=failure)
        return self.work(Work(awaited_results=[result]))

    def lose(self) -> None:
        """Crash: what was planned and not made is gone."""
        self.calls.clear()

    def acknowledge(self) -> None:
        """Let Kafka have everything, and empty the outbox as the relay does."""
        with self.engine.begin() as tx:
            tx.execute(text("DELETE FROM outbox WHERE aggregateid = :id"), {"id": self.saga_id})

    def wait(self, seconds: float) -> list[Message]:
        """Let time pass, do what is due by then, and return what is published because of it."""
        self.now += timedelta(seconds=seconds)
        with self.engine.begin() as tx:
            has_awaited = bool(self.handlers.awaited)
            due = attempt_rows.due(tx, [PARTITION], now=self.now, limit=DUE_MAX) if has_awaited else []
            rows = deferred.due(tx, [PARTITION], now=self.now, limit=DUE_MAX)
        own = [row for row in rows if row.saga_id == self.saga_id]
        deliveries = [(row.handler, Delivery.of(row, self.codec.decode(row.raw.value))) for row in own]
        return self.work(Work(awaited_due=[key for key in due if key[0] == self.saga_id], due=deliveries))

    def prove(self, outcome: Outcome, number: int = 1, *, step: str, **more: str) -> list[Message]:
        """Store what a callback proves of an attempt, and let the owner of the partition decide about it."""
        self.receive(outcome, number, step=step, **more)
        return self.decide()

    def receive(self, outcome: Outcome, number: int = 1, *, step: str, **more: str) -> None:
        """Store what a callback proves of an attempt. Nothing is decided about it yet."""
        claim = Claim(outcome=outcome, key=attempt_key(self.saga_id, step, number), **more)
        body = Received(
            id=new_id(),
            provider=self.name,
            source=Source.CALLBACK,
            received_at=self.now,
            headers=[],
            body=b"",
            claim=claim,
        )
        with self.engine.begin() as tx:
            evidence.store(tx, [body])

    def decide(self) -> list[Message]:
        """Decide about the evidence that waits, and reply to what waits for it."""
        return self.work(Work(evidence=self.waiting())) + self.wait(0)

    def waiting(self) -> list[StoredEvidence]:
        """Return the evidence that nothing was decided about, and that is due."""
        with self.engine.begin() as tx:
            found = evidence.waiting(tx, [PARTITION], now=self.now, limit=DUE_MAX)
        return [each for each in found if each.saga_id == self.saga_id]

    def work(self, work: Work, *, fails: Exception | None = None) -> list[Message]:
        """Handle work in one transaction, and return what is published. With ``fails`` its handling has raised that."""
        with self.engine.begin() as tx:
            batch = Batch(
                tx,
                self.name,
                self.handlers,
                self.codec,
                work.saga_ids,
                now=self.now,
                new_id=new_id,
                jitter=random.Random(0),
            )
            if fails is None:
                batch.handle(work)
            else:
                batch.record_failure(work, fails)
            out = batch.finish()
        return self._after(out)

    def state_of(self, step: str) -> str:
        """Return the state of a step's effect, with ``closing`` where its saga is fenced; ``none`` without a row."""
        with self.engine.connect() as connection:
            query = text("SELECT state, closing FROM effects WHERE saga_id = :id AND step = :step")
            row = connection.execute(query, {"id": self.saga_id, "step": step}).one_or_none()
        if row is None:
            return "none"
        return f"{row.state} closing" if row.closing else str(row.state)

    def _after(self, out: Outgoing) -> list[Message]:
        self.calls += out.awaited_calls
        self.letters += [row.topic for row in out.rows if row.topic.endswith(DEAD_LETTERS)]
        found = [self.codec.decode(row.payload) for row in out.rows if not row.topic.endswith(DEAD_LETTERS)]
        self.published += found
        return found


def types(messages: Sequence[Message]) -> list[str]:
    """Return the names of the types of these messages."""
    return [type(message).__name__ for message in messages]
