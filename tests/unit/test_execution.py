"""How a batch that fails is taken apart: every piece leaves a row, or the process ends. No broker, no database."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from chassis.saga.deferred import Deferral, RawMessage
from chassis.saga.execution import Execution
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Unprocessable, Work
from chassis.saga.unit_of_work import Delivery, Outgoing
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.payment import PaymentAuthorized
from proof.schemas import LocalRegistry
from support import toy
from support.builders import a
from support.toy import PICK

RAW = RawMessage(topic=toy.INPUT, partition=0, key=new_id().encode(), value=b"text", headers=(), offset=3)
UNPROCESSABLE = Unprocessable(raw=RAW, reason="no schema")
UNWANTED = Deferral(
    message_id=new_id(), handler="unread", saga_id=new_id(), raw=RAW, attempt=1, due_at=None, reason="no schema"
)


@dataclass
class Host:
    """Rolls back every batch of several pieces, and each piece for which ``fails`` returns an error."""

    fails: Callable[[Work], Exception | None]
    transactions: list[Work] = field(default_factory=list)
    committed_count: int = 0
    failed: list[Work] = field(default_factory=list)
    delivered: list[str] = field(default_factory=lambda: ["delivered"])

    def transact(self, work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        self.transactions.append(work)
        error = ValueError("the batch") if len(work) > 1 else self.fails(work)
        if error is not None:
            raise error
        return Outgoing()

    @contextmanager
    def removal(self) -> Iterator[Sequence[str]]:
        yield self.delivered
        self.delivered = []

    def committed(self, out: Outgoing) -> None:
        self.committed_count += 1

    def batch_failed(self, error: Exception) -> None:
        pass

    def piece_failed(self, piece: Work, error: Exception) -> None:
        self.failed.append(piece)


def execution(host: Host) -> Execution:
    handlers = Handlers.of(toy.handlers(toy.WellProvider()))
    return Execution(
        toy.NAME, handlers, Codec(LocalRegistry()), host,
        clock=lambda: datetime.now(UTC), new_id=new_id, jitter=lambda: random.Random(0),
    )  # fmt: skip


def delivery() -> tuple[str, Delivery]:
    return PICK, Delivery(message=a(PaymentAuthorized), raw=RAW)


def test_a_batch_that_fails_is_handled_piece_by_piece() -> None:
    host = Host(fails=lambda _: None)
    work = Work(deliveries=[delivery(), delivery()], unprocessable=[UNPROCESSABLE], unwanted=[UNWANTED])
    execution(host).run(work)
    assert [len(each) for each in host.transactions] == [4, 1, 1, 1, 1]
    assert (host.committed_count, host.failed, host.delivered) == (4, [], ["delivered"])


def test_the_failure_of_a_message_is_recorded_in_a_transaction_of_its_own() -> None:
    poison = delivery()
    errors = [ValueError("its handler")]
    host = Host(fails=lambda work: errors.pop() if poison in work.deliveries and errors else None)
    execution(host).run(Work(deliveries=[poison, delivery()]))
    assert [len(each) for each in host.transactions] == [2, 1, 1, 1]
    assert (host.committed_count, len(host.failed)) == (2, 1)


@pytest.mark.parametrize("piece", [Work(unprocessable=(UNPROCESSABLE,)), Work(unwanted=(UNWANTED,))])
def test_a_piece_without_a_handler_that_fails_ends_the_process(piece: Work) -> None:
    host = Host(fails=lambda work: ValueError("no row can be written") if work == piece else None)
    with pytest.raises(ValueError, match="no row can be written"):
        execution(host).run(piece)


def test_a_failure_that_cannot_be_recorded_ends_the_process() -> None:
    host = Host(fails=lambda _: ValueError("always"))
    with pytest.raises(ValueError, match="always"):
        execution(host).run(Work(deliveries=[delivery()]))
    assert host.committed_count == 0


def test_a_batch_is_not_taken_apart_after_a_transient_error() -> None:
    host = Host(fails=lambda _: OperationalError("SELECT", {}, Exception("the server is gone")))
    with pytest.raises(OperationalError):
        execution(host).run(Work(deliveries=[delivery()]))
    assert (len(host.transactions), host.delivered) == (1, ["delivered"])
