"""A service executed as its worker does it, on a real database and without Kafka; a test makes its calls.

Batches that fail are taken apart, failures are recorded and retried, and a crash loses what was not committed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from chassis.http.downstream import Unavailable, UnforeseenAnswer
from chassis.saga import deferred
from chassis.saga.deferred import RawMessage
from chassis.saga.execution import Execution
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Work
from chassis.saga.unit_of_work import CallResult, Delivery, Outgoing, PendingCall
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from proof.schemas import LocalRegistry

CODEC = Codec(LocalRegistry())
DUE_MAX = 100
REST_S = 5.0
ROUNDS_MAX = 20
"""More rounds than a step has attempts."""

DEFERRED = "SELECT * FROM deferred"
DUE = "SELECT 1 FROM deferred WHERE due_at IS NOT NULL"


class Crash(BaseException):
    """The process ends before its transaction commits."""


@dataclass(kw_only=True)
class Executed:
    """One service. ``published`` are its messages, ``letters`` its dead letters, ``failures`` what handlers raised."""

    name: str
    engine: Engine
    handlers: Handlers
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    calls: list[PendingCall] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)
    letters: list[Message] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    crashes: bool = False

    def deliver(self, *messages: Message, crashes: bool = False) -> list[Message]:
        """Handle these messages in one batch, and return what is published. With ``crashes`` it does not commit."""
        pairs = [(name, Delivery(message=each, raw=self.raw(each))) for each in messages for name in self._of(each)]
        if not crashes:
            return self._run(Work(deliveries=pairs))
        self.crashes = True
        try:
            self._run(Work(deliveries=pairs))
        except Crash:
            return []
        finally:
            self.crashes = False
        raise AssertionError("it did not crash")

    def call(self) -> list[Message]:
        """Make the planned calls, settle their results in one batch, and return what is published."""
        calls, self.calls = self.calls, []
        return self._run(Work(results=[_result_of(call) for call in calls]))

    def rest(self) -> list[Message]:
        """Make calls and let time pass until nothing is due any more, and return what is published."""
        before = len(self.published)
        for _ in range(ROUNDS_MAX):
            self.call()
            self.now += timedelta(seconds=REST_S)
            with self.engine.begin() as tx:
                rows = deferred.due(tx, [0], now=self.now, limit=DUE_MAX)
            if not rows and not self.calls and not self.rows(DUE):
                return self.published[before:]
            self._run(Work(due=[(row.handler, Delivery.of(row, CODEC.decode(row.raw.value))) for row in rows]))
        raise AssertionError(f"not at rest after {ROUNDS_MAX} rounds: {self.rows(DEFERRED)}")

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def run_sql(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as tx:
            tx.execute(text(statement), values)

    def raw(self, message: Message) -> RawMessage:
        """Return a message as Kafka would deliver it."""
        topic = f"{self.name}.commands" if type(message) in self.handlers.commands else f"{message.OWNER}.events"
        value = CODEC.encode(topic, message)
        return RawMessage(topic=topic, partition=0, key=message.saga_id.encode(), value=value, headers=())

    def transact(self, _work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        with self.engine.begin() as tx:
            out = handle(tx)
            if self.crashes:
                raise Crash
            return out

    @contextmanager
    def removal(self) -> Iterator[Sequence[str]]:
        yield ()

    def committed(self, out: Outgoing) -> None:
        self.calls += out.calls
        for row in out.rows:
            message = CODEC.decode(row.payload)
            (self.letters if row.topic.endswith(".dlq") else self.published).append(message)

    def batch_failed(self, error: Exception) -> None:
        self.failures.append(error)

    def piece_failed(self, _piece: Work, _error: Exception) -> None:
        """Its failure is that of its batch."""

    def _of(self, message: Message) -> Sequence[str]:
        return self.handlers.handling(message)

    def _run(self, work: Work) -> list[Message]:
        before = len(self.published)
        execution = Execution(
            self.name, self.handlers, CODEC, self,
            clock=lambda: self.now, new_id=new_id, jitter=lambda: random.Random(0),
        )  # fmt: skip
        execution.run(work)
        return self.published[before:]


def _result_of(call: PendingCall) -> CallResult:
    try:
        if call.is_query:
            return CallResult(call=call, outcome=call.handler.call.find(call.key))
        return CallResult(call=call, outcome=call.handler.call.run(call.request, call.key))
    except Unavailable as failure:
        return CallResult(call=call, failure=failure)
    except UnforeseenAnswer as error:
        return CallResult(call=call, failure=Unavailable(str(error)))
