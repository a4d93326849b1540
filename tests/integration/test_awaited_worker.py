"""A service with an awaited step as a process on real Kafka and PostgreSQL: what is sent when, and what settles it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.saga import evidence
from chassis.saga.attempts import Outcome
from chassis.saga.evidence import Claim, Received, Source
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.loyalty import LoyaltyPointsBurned
from messages.saga import FenceSaga, SagaFenced, StepAwaited
from messages.shipping import ShipmentBooked, ShipmentRejected
from stack import Stack
from stack.deploy import create_topics
from stack.kafka import admin
from support import toy_payer
from support.builders import a
from support.postgres import scratch_database
from support.registries import codec_of
from support.toy_payer import LOST, PAY
from support.toy_service import Toy
from support.waiting import until

PARTITIONS = 3


class Payer(Toy):
    """The service, what its bank has, and the callbacks that come to any process of it."""

    def pay(self, *triggers: Message, partition: int = 0) -> None:
        self.send(*triggers, topic=toy_payer.INPUT, partition=partition)

    def sends(self, saga_ids: Sequence[str]) -> dict[str, int]:
        """Return how often each saga's payment arrived at the bank."""
        rows = self.rows("SELECT key, sends FROM bank")
        return {row.key.split(":")[0]: row.sends for row in rows if row.key.split(":")[0] in saga_ids}

    def call_back(self, saga_id: str, outcome: Outcome) -> None:
        """Let the bank call back, as any process of the service stores it."""
        received = Received(
            id=new_id(),
            provider="bank",
            source=Source.CALLBACK,
            received_at=datetime.now(UTC),
            headers=[],
            body=b"{}",
            claim=Claim(outcome=outcome, key=f"{saga_id}:{PAY}"),
        )
        with self.engine.begin() as tx:
            evidence.store(tx, [received])

    def end(self, saga_id: str, outcome: Outcome) -> None:
        """Let the bank know an outcome, without a callback."""
        with self.engine.begin() as tx:
            tx.exec_driver_sql(
                "UPDATE bank SET outcome = %(outcome)s WHERE key = %(key)s",
                {"outcome": outcome.value, "key": f"{saga_id}:{PAY}"},
            )

    def state(self, saga_id: str) -> str:
        rows = self.rows("SELECT state FROM effects WHERE saga_id = :saga_id", saga_id=saga_id)
        return str(rows[0].state) if rows else "none"


@pytest.fixture(scope="module")
def payer(infrastructure: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Payer]:
    toy_payer.register_schemas(infrastructure.registry_writer())
    create_topics(admin(infrastructure.kafka()), toy_payer.TOPICS, PARTITIONS)
    with scratch_database(infrastructure) as engine, codec_of(infrastructure) as codec:
        toy_payer.METADATA.create_all(engine)
        yield Payer(
            stack=infrastructure, engine=engine, codec=codec, logs=tmp_path_factory.mktemp("payer"),
            name=toy_payer.NAME, module="support.toy_payer", events=toy_payer.EVENTS,
        )  # fmt: skip
    client = admin(infrastructure.kafka())
    for deleted in client.delete_topics(list(toy_payer.TOPICS)).values():
        deleted.result(60)


def wait_for(payer: Payer, trigger: Message, spoken: Sequence[type[Message]]) -> None:
    """Wait until the payer has published exactly these about a saga."""
    until(lambda: payer.spoken(trigger.saga_id), "it is settled", holds=lambda found: found == spoken)


def test_a_callback_settles_what_was_sent_and_a_query_where_no_callback_comes(payer: Payer) -> None:
    paid, refused = a(LoyaltyPointsBurned), a(LoyaltyPointsBurned)
    with payer.process():
        payer.pay(paid, refused)
        for trigger in (paid, refused):
            until(lambda t=trigger: payer.state(t.saga_id), "it is sent", holds=lambda state: state == "SENT")
        payer.call_back(paid.saga_id, Outcome.SUCCEEDED)
        payer.end(refused.saga_id, Outcome.REFUSED)
        wait_for(payer, paid, [StepAwaited, ShipmentBooked])
        wait_for(payer, refused, [StepAwaited, ShipmentRejected])
    assert payer.done([paid.saga_id, refused.saga_id]) == {paid.saga_id: 1}
    assert payer.sends([paid.saga_id, refused.saga_id]) == {paid.saga_id: 1, refused.saga_id: 1}


def test_a_callback_that_comes_before_its_attempt_is_known_waits_for_it(payer: Payer) -> None:
    trigger = a(LoyaltyPointsBurned)
    payer.call_back(trigger.saga_id, Outcome.SUCCEEDED)
    assert payer.rows("SELECT 1 FROM evidence WHERE match_at IS NOT NULL"), "it is an orphan"
    payer.pay(trigger)
    with payer.process():
        until(lambda: payer.spoken(trigger.saga_id), "it is settled", holds=lambda found: ShipmentBooked in found)
    assert payer.done([trigger.saga_id]) == {trigger.saga_id: 1}


def test_while_kafka_does_not_have_the_attempt_the_bank_is_not_called(payer: Payer) -> None:
    trigger = a(LoyaltyPointsBurned)
    (kafka,) = payer.stack.pids("kafka")
    with payer.process() as process:
        with payer.engine.connect() as lock, lock.begin():
            lock.exec_driver_sql("LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE")
            payer.pay(trigger)
            until(lambda: payer.rows(BLOCKED), "the payer waits for its attempts")
            os.kill(kafka, signal.SIGSTOP)
        try:
            until(lambda: payer.state(trigger.saga_id), "it is committed", holds=lambda state: state == "STARTED")
            until(lambda: payer.rows(DUE, saga_id=trigger.saga_id), "its call would be over by now", within_s=60)
            process.kill()
            process.wait(10)
        finally:
            os.kill(kafka, signal.SIGCONT)
    assert payer.sends([trigger.saga_id]) == {}
    with payer.process():
        until(lambda: payer.state(trigger.saga_id), "the next process sends it", holds=lambda state: state == "SENT")
        payer.call_back(trigger.saga_id, Outcome.SUCCEEDED)
        until(lambda: payer.spoken(trigger.saga_id), "it is settled", holds=lambda found: ShipmentBooked in found)
    assert payer.sends([trigger.saga_id]) == {trigger.saga_id: 1}
    assert list(dict.fromkeys(payer.spoken(trigger.saga_id))) == [StepAwaited, ShipmentBooked]


BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
DUE = "SELECT 1 FROM awaited_steps WHERE saga_id = :saga_id AND query_at <= now()"


def test_a_fence_is_replied_to_at_once_and_again_when_the_outcome_is_there(payer: Payer) -> None:
    trigger = a(LoyaltyPointsBurned, customer_id=LOST)
    fence = replace(a(FenceSaga, steps=[PAY]), saga_id=trigger.saga_id)
    with payer.process():
        payer.pay(trigger)
        until(lambda: payer.sends([trigger.saga_id]), "it is sent, and its answer is lost")
        payer.send(fence, topic=toy_payer.COMMANDS)
        until(lambda: states(payer, trigger.saga_id), "it is in doubt", holds=lambda found: found == ["IN_DOUBT"])
        payer.call_back(trigger.saga_id, Outcome.REFUSED)
        ends = ["IN_DOUBT", "REJECTED"]
        until(lambda: states(payer, trigger.saga_id), "it is settled", holds=lambda found: found == ends)
    assert payer.done([trigger.saga_id]) == {}


def states(payer: Payer, saga_id: str) -> list[str]:
    """Return the state of the step in each reply to a fence."""
    found = [payer.codec.decode(each.value) for each in payer.answers([saga_id])]
    return [each.steps[0].state for each in found if isinstance(each, SagaFenced)]


def test_of_two_replicas_one_may_be_killed_while_payments_are_sent_and_called_back(payer: Payer) -> None:
    triggers = [a(LoyaltyPointsBurned) for _ in range(60)]
    saga_ids = [trigger.saga_id for trigger in triggers]
    with payer.process() as first, payer.process():
        for partition in range(PARTITIONS):
            payer.pay(*triggers[partition::PARTITIONS], partition=partition)
        until(lambda: payer.sends(saga_ids), "some are sent")
        first.kill()
        until(lambda: payer.sends(saga_ids), "all are sent", holds=lambda sent: len(sent) == len(saga_ids))
        for saga_id in saga_ids:
            payer.call_back(saga_id, Outcome.SUCCEEDED)
        until(lambda: payer.done(saga_ids), "all are settled", holds=lambda done: len(done) == len(saga_ids))
    assert payer.done(saga_ids) == dict.fromkeys(saga_ids, 1)
    keys = {answer.key for answer in payer.answers(saga_ids)}
    assert keys == {saga_id.encode() for saga_id in saga_ids}
