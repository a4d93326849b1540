"""A restored service with a call that was made, of which neither its database nor a reply knows; without Kafka."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from chassis.http.downstream import Unavailable
from chassis.postgres.transient import utc_now
from chassis.process.published import READ_AHEAD_MAX, Published
from chassis.process.reconcile import Replay
from chassis.process.topic_reader import CannotReconcile
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Work
from chassis.saga.unit_of_work import Delivery
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.loyalty import LoyaltyPointsBurned
from messages.saga import FenceSaga, SagaFenced
from proof.schemas import LocalRegistry
from stack import Stack
from support import toy
from support.builders import a
from support.postgres import scratch_database
from support.toy import COMMANDS, INPUT, SEND

CODEC = Codec(LocalRegistry())


class Provider(toy.WellProvider):
    """A provider that was called before the restore, and is called no more."""

    def __init__(self) -> None:
        self.did: dict[str, str] = {}
        self.is_away = False

    def send(self, request: str, key: str) -> str:
        raise AssertionError("a reconciliation makes no provider act")

    def find(self, key: str) -> str | None:
        if self.is_away:
            raise Unavailable("does not answer")
        return self.did.get(key)


class Restored:
    """A service whose database was restored to before a trigger that Kafka has."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.provider, self.saga_id = engine, Provider(), new_id()
        self.handlers = Handlers.of(toy.handlers(self.provider))
        self.trigger = self._raw(INPUT, a(LoyaltyPointsBurned, saga_id=self.saga_id))

    def _raw(self, topic: str, message: Message) -> RawMessage:
        key = self.saga_id.encode()
        return RawMessage(topic=topic, partition=0, key=key, value=CODEC.encode(topic, message), headers=())

    def reconcile(self) -> int:
        triggers = {(self.saga_id, LoyaltyPointsBurned): self.trigger}
        return Replay(toy.NAME, self.handlers, self.engine, CODEC, Published(triggers=triggers)).recover(triggers)

    def fence(self) -> str:
        """Read the fence before the trigger, as a restored service may, and return the state that it replies."""
        message = a(FenceSaga, saga_id=self.saga_id, steps=[SEND])
        delivery = Delivery(message=message, raw=self._raw(COMMANDS, message))
        with self.engine.begin() as tx:
            batch = Batch(
                tx, toy.NAME, self.handlers, CODEC, [self.saga_id], now=utc_now(), new_id=new_id,
                jitter=random.Random(0),
            )  # fmt: skip
            batch.handle(Work(deliveries=[(name, delivery) for name in self.handlers.handling(message)]))
            replies = [CODEC.decode(row.payload) for row in batch.finish().rows]
        (reply,) = [each for each in replies if isinstance(each, SagaFenced)]
        return reply.steps[0].state

    def outbox(self) -> list[str]:
        with self.engine.connect() as connection:
            query = text("SELECT type FROM outbox WHERE aggregateid = :id")
            return list(connection.execute(query, {"id": self.saga_id}).scalars())


@pytest.fixture
def restored(infrastructure: Stack) -> Iterator[Restored]:
    with scratch_database(infrastructure) as engine:
        toy.METADATA.create_all(engine)
        yield Restored(engine)


@pytest.mark.parametrize(
    ("outcome", "state", "published"),
    [
        ("sent", "DONE", "baraza.shipping.ShipmentBooked"),
        ("refused", "REJECTED", "baraza.shipping.ShipmentRejected"),
    ],
)
def test_what_a_provider_did_is_known_before_a_fence_is_read(
    restored: Restored, outcome: str, state: str, published: str
) -> None:
    restored.provider.did[f"{restored.saga_id}:{SEND}"] = outcome
    assert restored.reconcile() == 1
    assert restored.outbox() == [published], "its reply was never published, so the service publishes it at its start"
    assert restored.reconcile() == 0, "a reconciliation may be run again"
    assert restored.fence() == state


def test_a_call_that_never_arrived_is_left_to_the_fence(restored: Restored) -> None:
    assert restored.reconcile() == 0
    assert restored.outbox() == []
    assert restored.fence() == "FENCED"


def test_only_what_the_service_had_read_may_have_been_called() -> None:
    raw = RawMessage(topic=INPUT, partition=3, key=b"", value=b"", headers=())
    offsets = {"read": 7, "just read": 10 + READ_AHEAD_MAX - 1, "unread": 10 + READ_AHEAD_MAX, "fenced": 10**9}
    triggers = {(name, LoyaltyPointsBurned): replace(raw, offset=offset) for name, offset in offsets.items()}
    read = Published(triggers=triggers, closed={"fenced"})
    assert {saga_id for saga_id, _ in read.may_be_called({(INPUT, 3): 10})} == {"read", "just read", "fenced"}
    assert {saga_id for saga_id, _ in read.may_be_called({})} == {"read", "fenced"}


def test_while_a_provider_does_not_answer_nothing_is_reconciled(restored: Restored) -> None:
    restored.provider.is_away = True
    with pytest.raises(CannotReconcile, match="Run this again when it answers"):
        restored.reconcile()
    assert restored.outbox() == []
