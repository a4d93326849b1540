"""The chassis as a process on real Kafka and PostgreSQL: what survives a kill, and what one bad message may harm."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from chassis.process.intake import SESSION_TIMEOUT_MS
from chassis.saga.waiting import UNPROCESSABLE
from chassis.wire.envelope import new_id
from messages.inventory import InventoryReserved, ReleaseInventory
from messages.loyalty import LoyaltyPointsBurned
from messages.payment import PaymentAuthorized
from messages.saga import FenceSaga, RedriveStep, StepRedriven
from messages.shipping import ShipmentBooked
from stack import Stack
from stack.deploy import create_topics
from stack.kafka import admin
from support import toy
from support.builders import a
from support.postgres import scratch_database
from support.registries import codec_of
from support.tcp_proxy import proxy_to
from support.topics import OutgoingMessage, publish
from support.toy import SEND
from support.toy_service import STOPS_WITHIN_S, Toy
from support.waiting import until

PARTITIONS = 3


@pytest.fixture(scope="module")
def service(infrastructure: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    toy.register_schemas(infrastructure.registry_writer())
    create_topics(admin(infrastructure.kafka()), toy.TOPICS, PARTITIONS)
    with scratch_database(infrastructure) as engine, codec_of(infrastructure) as codec:
        toy.METADATA.create_all(engine)
        logs = tmp_path_factory.mktemp("toy")
        yield Toy(stack=infrastructure, engine=engine, codec=codec, logs=logs)
    # The audit of the scenarios looks at every dead letter; those of the toy are not theirs.
    client = admin(infrastructure.kafka())
    for deleted in client.delete_topics(list(toy.TOPICS)).values():
        deleted.result(60)


def test_an_answer_keeps_key_partition_and_trace_of_its_cause(service: Toy) -> None:
    trigger = a(PaymentAuthorized)
    service.send(trigger, partition=2)
    with service.process():
        (answer,) = until(lambda: service.answers([trigger.saga_id]), "the toy answers")
    assert (answer.partition, answer.key) == (2, trigger.saga_id.encode())
    assert answer.headers["ce_type"] == InventoryReserved.FULL_NAME.encode()
    assert answer.headers["traceparent"].split(b"-")[1] == b"a" * 32
    decoded = service.codec.decode(answer.value)
    assert decoded.causation_id == trigger.message_id


def test_a_poison_message_harms_only_itself(service: Toy) -> None:
    good = [a(PaymentAuthorized) for _ in range(5)]
    poison = a(PaymentAuthorized, customer_id=toy.POISON)
    batch = service.send(*good[:3], poison, *good[3:])
    with service.process():
        until(lambda: service.letters("pick.dlq", poison.saga_id), "the poison is a dead letter")
        saga_ids = [message.saga_id for message in good]
        until(lambda: service.answers(saga_ids), "the others are answered", holds=lambda found: len(found) == 5)
    (letter,) = service.letters("pick.dlq", poison.saga_id)
    assert (letter.key, letter.value) == (batch[3].key, batch[3].value)
    assert letter.headers["traceparent"] == dict(batch[3].headers)["traceparent"]
    assert letter.headers["baraza_service"] == b"toy"
    assert letter.headers["baraza_step"] == b"pick"
    assert letter.headers["baraza_attempts"] == b"3"
    assert b"Poisoned" in letter.headers["baraza_reason"]
    assert service.rows("SELECT 1 FROM effects WHERE saga_id = :saga_id", saga_id=poison.saga_id) == []


def test_a_trigger_whose_call_cannot_be_prepared_is_a_dead_letter_in_the_end(service: Toy) -> None:
    poison = a(LoyaltyPointsBurned, customer_id=toy.POISON)
    (parcel,) = service.send(poison)
    with service.process():
        (letter,) = until(lambda: service.letters("send.dlq", poison.saga_id), "the poison is a dead letter")
    assert letter.value == parcel.value
    assert service.parked([poison.saga_id]) == {poison.saga_id: "send"}


UNREADABLE: dict[str, Callable[[Toy, bytes], OutgoingMessage]] = {
    "nothing": lambda _, key: OutgoingMessage(topic=toy.COMMANDS, partition=0, key=key, value=None),
    "an empty value": lambda _, key: OutgoingMessage(topic=toy.INPUT, partition=0, key=key, value=b""),
    "text": lambda _, key: OutgoingMessage(topic=toy.INPUT, partition=0, key=key, value=b'{"order": 1}'),
    "an unknown schema": lambda _, key: OutgoingMessage(
        topic=toy.INPUT, partition=0, key=key, value=struct.pack(">bI", 0, 2**31 - 1) + b"x"
    ),
    "an impossible schema": lambda _, key: OutgoingMessage(
        topic=toy.INPUT, partition=0, key=key, value=struct.pack(">bI", 0, 2**32 - 1) + b"x"
    ),
    "a message that ends early": lambda service, key: _changed(service, key, lambda value: value[:-3]),
    "a message that goes on": lambda service, key: _changed(service, key, lambda value: value + b"more"),
    "another saga's key": lambda service, key: _changed(service, key, lambda value: value),
    "an event as a command": lambda service, key: OutgoingMessage(
        topic=toy.COMMANDS, partition=0, key=key, value=service.codec.encode(toy.EVENTS, a(ShipmentBooked))
    ),
    "a fence for steps of others": lambda service, key: service.parcel(
        a(FenceSaga, saga_id=key.decode(), steps=["elsewhere"]), topic=toy.COMMANDS
    ),
    "unprintable ids": lambda service, key: service.parcel(
        a(ReleaseInventory, saga_id=key.decode() + "\x00", message_id="\x00"), topic=toy.COMMANDS
    ),
    "a saga of another release": lambda service, key: service.parcel(
        a(PaymentAuthorized, saga_id=key.decode(), saga_version=2**31 - 1)
    ),
    "a huge message": lambda _, key: OutgoingMessage(topic=toy.INPUT, partition=0, key=key, value=b"x" * 999_800),
}


def _changed(service: Toy, key: bytes, change: Callable[[bytes], bytes]) -> OutgoingMessage:
    value = service.codec.encode(toy.INPUT, a(PaymentAuthorized))
    return OutgoingMessage(topic=toy.INPUT, partition=0, key=key, value=change(value))


def test_an_unprocessable_message_is_a_dead_letter_with_its_own_bytes(service: Toy) -> None:
    sent = {what: make(service, new_id().encode()) for what, make in UNREADABLE.items()}
    after = a(PaymentAuthorized)
    publish(service.stack.kafka(), sent.values())
    service.send(after)
    with service.process():
        until(lambda: service.answers([after.saga_id]), "a good message after the bad ones is answered")
        keys = {parcel.key.hex(): what for what, parcel in sent.items() if parcel.key}

        def missing() -> set[str]:
            letters = service.stored("toy.dlq")
            return set(keys.values()) - {keys.get(letter.headers["baraza_key"].decode(), "") for letter in letters}

        until(missing, "each is a dead letter", holds=lambda what: not what)
    for letter in service.stored("toy.dlq"):
        what = keys[letter.headers["baraza_key"].decode()]
        assert letter.value == (sent[what].value or b""), what
        assert letter.headers["baraza_topic"] == sent[what].topic.encode()
        assert letter.headers["baraza_reason"], what
        assert letter.headers["baraza_redrive"] == b"0", what
    saga_ids = [parcel.key.decode() for what, parcel in sent.items() if parcel.key and what != "unprintable ids"]
    assert set(service.parked(saga_ids)) == set(saga_ids), "each is parked for the saga that its key names"


def test_a_deferred_message_that_cannot_be_read_any_more_is_a_dead_letter(service: Toy) -> None:
    saga_id, good = new_id(), a(PaymentAuthorized)
    with service.engine.begin() as tx:
        unreadable = """
            INSERT INTO deferred
                (message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, created_at)
            VALUES (:saga_id, 'pick', :saga_id, 'toy.input', 0, '[]', 'text', 2, now(), 'before the release', now())
        """
        tx.execute(text(unreadable), {"saga_id": saga_id})
    with service.process():
        (letter,) = until(lambda: service.letters("toy.dlq", saga_id), "it is a dead letter")
        service.send(good)
        until(lambda: service.answers([good.saga_id]), "the toy goes on")
    assert letter.value == b"text"
    assert service.parked([saga_id]) == {saga_id: UNPROCESSABLE}


def test_an_unprocessable_message_is_routed_anew_when_it_is_redriven(service: Toy) -> None:
    once, never, later = a(PaymentAuthorized), new_id(), a(LoyaltyPointsBurned)
    later = replace(later, saga_id=once.saga_id)
    with service.engine.begin() as tx:
        for saga_id, payload in ((once.saga_id, service.codec.encode(toy.INPUT, once)), (never, b"text")):
            values = {"saga_id": saga_id, "payload": payload, "handler": UNPROCESSABLE}
            tx.execute(text(PARKED), values)
    redrives = [a(RedriveStep, saga_id=saga_id, step="", attempt=1) for saga_id in (once.saga_id, never)]
    service.send(later)
    with service.process():
        until(lambda: service.parked([once.saga_id]), "the later event waits", holds=lambda kept: SEND in kept.values())
        service.send(*redrives, topic=toy.COMMANDS)
        (letter,) = until(lambda: service.letters("toy.dlq", never), "it cannot be read again")
        announced = [StepRedriven, InventoryReserved, ShipmentBooked]
        until(lambda: service.spoken(once.saga_id), "all goes on, in order", holds=lambda found: found == announced)
    assert letter.headers["baraza_redrive"] == b"1"
    assert service.parked([once.saga_id, never]) == {never: UNPROCESSABLE}


PARKED = """
    INSERT INTO deferred (message_id, handler, saga_id, topic, partition, headers, payload, attempt, reason, created_at)
    VALUES (:saga_id, :handler, :saga_id, 'toy.input', 0, '[]', :payload, 1, 'unreadable in the last release', now())
"""


def test_a_reaction_that_fails_is_tried_again(service: Toy) -> None:
    event = a(ShipmentBooked, customer_id=toy.POISON)
    value = service.codec.encode(toy.EVENTS, event)
    parcel = OutgoingMessage(topic=toy.INPUT, partition=0, key=event.saga_id.encode(), value=value)
    publish(service.stack.kafka(), [parcel])
    with service.process(toy.LISTENER):
        until(lambda: service.done([event.saga_id]), "the reaction succeeds at its second attempt")
        until(lambda: service.waiting(event.saga_id), "nothing waits", holds=lambda rows: not rows)


def test_a_kill_between_commit_and_publication_loses_no_message(service: Toy) -> None:
    trigger = a(PaymentAuthorized)
    (kafka,) = service.stack.pids("kafka")
    with service.process() as process:
        with service.engine.connect() as lock, lock.begin():
            lock.execute(text("LOCK TABLE marks IN ACCESS EXCLUSIVE MODE"))  # which only a batch needs
            service.send(trigger)
            until(lambda: service.rows(BLOCKED), "the toy waits for its marks")
            os.kill(kafka, signal.SIGSTOP)
        try:
            until(lambda: outbox_of(service, trigger.saga_id), "the answer is committed")
            process.kill()
            process.wait(10)
        finally:
            os.kill(kafka, signal.SIGCONT)
    assert service.answers([trigger.saga_id]) == [], "it was published before the kill; the test proves nothing"
    with service.process():
        until(lambda: service.answers([trigger.saga_id]), "the next owner publishes what was left")
        until(lambda: outbox_of(service, trigger.saga_id), "the outbox is empty", holds=lambda rows: not rows)
    assert service.done([trigger.saga_id]) == {trigger.saga_id: 1}


BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def test_a_node_that_vanishes_in_mid_transaction_holds_its_neighbour_back_for_seconds(service: Toy) -> None:
    """Its packets no longer reach PostgreSQL, and neither does its end. The neighbour needs the rows that it locked."""
    trigger = a(PaymentAuthorized)
    ends = service.stack.endpoints
    with (
        proxy_to(str(ends.postgres_host), int(ends.postgres_port)) as proxy,
        service.process(postgres_port=proxy.port) as vanishing,
    ):
        with service.engine.connect() as lock, lock.begin():
            lock.execute(text("LOCK TABLE marks IN ACCESS EXCLUSIVE MODE"))  # which only a batch needs
            service.send(trigger)
            until(lambda: service.rows(BLOCKED), "the node is in mid-transaction")
            proxy.vanish()
            vanishing.kill()
        until(lambda: service.rows(IDLE_WITH_LOCKS), "PostgreSQL keeps its locks and waits for it")
        with service.process():
            within_s = 30.0 + SESSION_TIMEOUT_MS / 1000
            until(lambda: service.answers([trigger.saga_id]), "the neighbour goes on", within_s=within_s)
    assert service.done([trigger.saga_id]) == {trigger.saga_id: 1}


IDLE_WITH_LOCKS = """
    SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE datname = current_database() AND relation = 'marks'::regclass AND mode = 'RowExclusiveLock' AND granted
      AND wait_event = 'ClientRead'
"""


def test_on_a_slow_disk_a_provider_is_called_all_the_same(service: Toy) -> None:
    """Every commit takes three seconds, as long as a call itself may take."""
    trigger = a(LoyaltyPointsBurned)
    with service.engine.begin() as tx:
        tx.execute(text(SLOW_COMMITS))
    try:
        service.send(trigger)
        with service.process():
            until(lambda: service.spoken(trigger.saga_id), "it is sent", holds=lambda found: found == [ShipmentBooked])
    finally:
        with service.engine.begin() as tx:
            tx.execute(text("DROP FUNCTION commit_slowly CASCADE"))
        service.engine.dispose()  # psycopg has deallocated the prepared statements of this connection
    (row,) = service.rows("SELECT state, attempt FROM effects WHERE saga_id = :saga_id", saga_id=trigger.saga_id)
    assert (row.state, row.attempt) == ("DONE", 1), "what was not called was counted as an attempt"


SLOW_COMMITS = """
    CREATE FUNCTION commit_slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER commit_slowly AFTER INSERT OR UPDATE ON effects
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION commit_slowly()
"""


def outbox_of(service: Toy, saga_id: str) -> list[Any]:
    return service.rows("SELECT id FROM outbox WHERE aggregateid = :saga_id", saga_id=saga_id)


def test_two_replicas_share_the_work_and_one_may_be_killed_in_mid_batch(service: Toy) -> None:
    triggers = [a(PaymentAuthorized) for _ in range(300)]
    saga_ids = [trigger.saga_id for trigger in triggers]
    with service.process() as first, service.process():
        for partition in range(PARTITIONS):
            service.send(*triggers[partition::PARTITIONS], partition=partition)
        until(lambda: service.done(saga_ids), "the replicas work")
        first.kill()
        until(
            lambda: len({answer.key for answer in service.answers(saga_ids)}),
            "every trigger is answered",
            holds=lambda count: count == len(saga_ids),
        )
        until(lambda: service.rows("SELECT id FROM outbox"), "the outbox is empty", holds=lambda rows: not rows)
    assert service.done(saga_ids) == dict.fromkeys(saga_ids, 1)


def test_a_registry_that_is_away_is_waited_for(service: Toy) -> None:
    trigger = a(PaymentAuthorized)
    service.send(trigger)
    registry = urlsplit(service.stack.endpoints.registry_url)
    with proxy_to(str(registry.hostname), int(registry.port or 0)) as proxy:
        proxy.vanish()
        address = registry._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
        with service.process(registry_url=address) as process:
            missed = b"The schema registry is unavailable, retrying."
            until(lambda: missed in (service.logs / "toy.log").read_bytes(), "the toy misses the registry")
            proxy.reappear()
            until(lambda: service.answers([trigger.saga_id]), "the toy goes on")
            assert process.poll() is None


def test_a_process_that_is_asked_to_stop_leaves_nothing_behind(service: Toy) -> None:
    triggers = [a(LoyaltyPointsBurned) for _ in range(20)]
    service.send(*triggers)
    saga_ids = [trigger.saga_id for trigger in triggers]
    with service.process() as process:
        until(lambda: service.rows("SELECT 1 FROM effects WHERE saga_id = :id", id=saga_ids[0]), "it works")
        process.terminate()
        assert process.wait(STOPS_WITHIN_S) == 0
    assert service.rows("SELECT id FROM outbox") == []
