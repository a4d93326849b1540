"""Calls about attempts: one of a new attempt is made once Kafka has acknowledged its StepAwaited, and never before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from confluent_kafka import Producer
from sqlalchemy import create_engine

from chassis.http.downstream import NotTried, TooLate, Unavailable
from chassis.postgres.transient import TransientRetry, utc_now
from chassis.process.calls import CALLS_MAX, Calls
from chassis.process.pace import Pace
from chassis.process.transactions import Transactions
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer
from chassis.saga.attempts import AwaitedPolicy, Outcome
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import Relay
from chassis.saga.steps import AwaitedCall, AwaitedStep
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, AwaitedResult, Outgoing
from support.waiting import until


class Kafka:
    """A producer that acknowledges what it was given when a test says so."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], None]] = []
        self.is_up = False

    def produce(self, topic: str, *, on_delivery: Any, partition: int = 0, **_more: object) -> None:
        self.pending.append(lambda: on_delivery(None, Delivered()))

    def poll(self, _timeout_s: float) -> int:
        if self.is_up:
            pending, self.pending = self.pending, []
            for acknowledge in pending:
                acknowledge()
        return 0


class Delivered:
    def partition(self) -> int:
        return 0


@dataclass
class Bank:
    sent: list[str] = field(default_factory=list)
    answer: QueryAnswer | Exception = field(default_factory=Accepted)

    def reply(self, *_what: object) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def send(self, _request: str, key: str) -> Any:
        self.sent.append(key)
        return self.reply()


class Host:
    """The transactions of a worker, with a provider and a Kafka that a test controls."""

    def __init__(self) -> None:
        self.kafka, self.bank = Kafka(), Bank()
        self.calls = Calls(utc_now)
        relay = Relay(cast("Producer", self.kafka))
        engine = create_engine("postgresql+psycopg://nowhere.invalid/none")
        self.transactions = Transactions("toy", engine, relay, self.calls, Pace(), TransientRetry(threading.Event()))
        self.step: AwaitedStep[Any, Any, Any] = AwaitedStep(
            name="pay", triggers=(), policy=AwaitedPolicy(no_return=False, can_cancel=True),
            load=lambda _requests, _tx: None, record=lambda _request, _settlement, _rows: None,
            save=lambda _rows, _tx: None, compensation=None,
            call=AwaitedCall(
                prepare=lambda _requests, _tx: {}, send=self.bank.send, query=self.bank.reply, cancel=self.bank.reply
            ),
        )  # fmt: skip

    def pending(self, act: AwaitedAct = AwaitedAct.SEND, *, after: str | None = None) -> AwaitedPendingCall:
        return AwaitedPendingCall(
            step=self.step, saga_id="s", number=1, act=act, key="s:pay", provider_id=None, request="r", after=after,
            deadline_at=utc_now() + timedelta(seconds=30),
        )  # fmt: skip

    def result(self) -> AwaitedResult:
        """Return the one result, once it is there."""

        def found() -> list[AwaitedResult]:
            self.transactions.begin_acknowledged()
            assert self.calls.collect() == []
            return self.calls.collect_awaited()

        (result,) = until(found, "the call has ended")
        return result


def row(row_id: str) -> OutboxRow:
    return OutboxRow(
        id=row_id, topic="toy.events", saga_id="s", type="t", payload=b"", headers=(), partition=0
    )  # fmt: skip


def test_a_call_waits_until_kafka_has_acknowledged_the_attempt_that_it_is_of() -> None:
    host = Host()
    host.transactions.committed(Outgoing(rows=[row("r1"), row("r2")], awaited_calls=[host.pending(after="r1")]))
    host.transactions.begin_acknowledged()
    assert (host.calls.under_way, host.bank.sent) == (0, [])
    host.kafka.is_up = True
    assert host.result().answer == Accepted()
    assert host.bank.sent == ["s:pay"]


def test_a_row_that_kafka_has_acknowledged_before_is_waited_for_no_more() -> None:
    host = Host()
    host.kafka.is_up = True
    host.transactions.committed(Outgoing(rows=[row("r1")]))
    host.transactions.committed(Outgoing(awaited_calls=[host.pending(after="r1")]))
    assert host.result().answer == Accepted()


def test_a_call_whose_attempt_is_acknowledged_too_late_is_not_made() -> None:
    host = Host()
    call = replace(host.pending(after="r1"), deadline_at=utc_now())
    host.transactions.committed(Outgoing(rows=[row("r1")], awaited_calls=[call]))
    assert isinstance(host.result().failure, TooLate)
    host.kafka.is_up = True
    host.transactions.begin_acknowledged()
    assert (host.calls.under_way, host.bank.sent) == (0, [])


@pytest.mark.parametrize("act", [AwaitedAct.QUERY, AwaitedAct.CANCEL])
def test_a_query_and_a_cancel_of_an_attempt_that_kafka_has_wait_for_nothing(act: AwaitedAct) -> None:
    host = Host()
    host.bank.answer = NotFound() if act is AwaitedAct.QUERY else Proven(outcome=Outcome.VOIDED)
    host.transactions.committed(Outgoing(awaited_calls=[host.pending(act)]))
    assert host.result().answer == host.bank.answer


def test_a_cancel_that_waits_for_kafka_takes_the_place_of_the_send_that_waits() -> None:
    host = Host()
    cancel = host.pending(AwaitedAct.CANCEL, after="r1")
    host.transactions.committed(Outgoing(rows=[row("r1")], awaited_calls=[host.pending(after="r1")]))
    host.transactions.committed(Outgoing(awaited_calls=[cancel]))
    assert isinstance(host.result().failure, NotTried), "the send is not made any more"
    host.bank.answer = Proven(outcome=Outcome.VOIDED)
    host.kafka.is_up = True
    assert host.result().answer == host.bank.answer
    assert host.bank.sent == []


@pytest.mark.parametrize("error", [Unavailable("does not answer"), ValueError("a defect of the adapter")])
def test_without_an_answer_there_is_a_failure_and_nothing_else(error: Exception) -> None:
    host = Host()
    host.bank.answer = error
    host.transactions.committed(Outgoing(awaited_calls=[host.pending()]))
    result = host.result()
    assert result.answer is None
    assert isinstance(result.failure, Unavailable)


@pytest.mark.parametrize("text", ["a\0b", "a\ud800"], ids=["a NUL character", "half of a pair"])
@pytest.mark.parametrize("name", ["provider_id", "reference", "detail"])
def test_an_answer_that_the_database_cannot_hold_is_none(name: str, text: str) -> None:
    host = Host()
    host.bank.answer = Proven(outcome=Outcome.SUCCEEDED, **{name: text})
    host.transactions.committed(Outgoing(awaited_calls=[host.pending(AwaitedAct.QUERY)]))
    result = host.result()
    assert (result.answer, str(result.failure)) == (None, "pay was answered with a text that PostgreSQL cannot hold")


def test_an_acknowledgement_with_an_id_that_the_database_cannot_hold_is_none() -> None:
    host = Host()
    host.bank.answer = Accepted(provider_id="bank:\0")
    host.transactions.committed(Outgoing(awaited_calls=[host.pending()]))
    assert isinstance(host.result().failure, Unavailable)


def test_a_send_that_gets_no_thread_in_time_is_not_made() -> None:
    host = Host()
    host.calls.begin_awaited(replace(host.pending(), deadline_at=utc_now()))
    assert isinstance(host.result().failure, TooLate)
    assert host.bank.sent == []


def made(host: Host, calls: list[AwaitedPendingCall]) -> list[AwaitedResult]:
    """Make these calls, and return their results."""
    results: list[AwaitedResult] = []
    host.transactions.committed(Outgoing(awaited_calls=calls))

    def are_all_there() -> bool:
        assert host.calls.collect() == []
        results.extend(host.calls.collect_awaited())
        return len(results) == len(calls)

    until(are_all_there, "the calls have ended")
    return results


def test_only_while_calls_are_quick_more_are_planned_than_there_are_threads() -> None:
    host, hangs = Host(), threading.Event()
    assert host.calls.room == CALLS_MAX + 1
    made(host, [host.pending()] * 4 * CALLS_MAX)
    assert host.calls.room > 2 * CALLS_MAX

    host.step = replace(host.step, call=replace(host.step.call, send=lambda *_what: hangs.wait() and Accepted()))
    host.transactions.committed(Outgoing(awaited_calls=[host.pending()]))
    try:
        until(lambda: host.calls.room < 2 * CALLS_MAX, "a call hangs, so less is planned")
    finally:
        hangs.set()
    assert host.result().answer == Accepted()
    assert host.calls.room > 2 * CALLS_MAX


def test_nothing_is_learned_from_calls_that_are_not_made() -> None:
    host = Host()
    late = replace(host.pending(), deadline_at=utc_now())
    assert {type(each.failure) for each in made(host, [late] * 4 * CALLS_MAX)} == {TooLate}
    assert host.calls.room == CALLS_MAX + 1
