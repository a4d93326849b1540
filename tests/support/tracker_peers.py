"""The tracker's peers, played by a test: it publishes events on the real Kafka and reads what the tracker sends."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from sqlalchemy import Engine, text

from chassis.saga import publisher
from chassis.wire.codec import Codec
from chassis.wire.envelope import headers, new_id, new_traceparent
from messages import checkout, saga
from messages.contract import Message, name_of
from saga_tracker.definitions import newest
from stack import Stack, issuers
from support import waiting

ORDER = newest("order")
STEPS = tuple(step.name for step in ORDER.steps)
PARTITIONS = 6
DEADLINE_S = 60.0
SHORT = {"BARAZA_TIMEOUT_FACTOR": "0.05"}
"""Every deadline of a saga is a twentieth of its real one: a second for the first step."""
ADDRESS = checkout.Address(
    name="A", street="B", city="C", postal_code="D", country="KE", street_2=None, region=None, phone=None
)
LINES = (checkout.OrderLine(sku="sku-1", quantity=1, unit_price_minor=100),)
Value = TypeVar("Value")


def until(look: Callable[[], Value], what: str, *, within_s: float = DEADLINE_S) -> Value:
    """Call :func:`waiting.until` with a deadline for a busy machine."""
    return waiting.until(look, what, within_s=within_s)


FIELDS: dict[str, Any] = {
    "customer_id": "customer-1",
    "currency": "KES",
    "lines": LINES,
    "points_to_burn": 0,
    "total_minor": 100,
    "payable_minor": 100,
    "amount_minor": 100,
    "payment_token": "tok",
    "ship_to": ADDRESS,
    "authorization_id": "auth-1",
    "capture_id": "capture-1",
    "tracking_number": "track-1",
    "reason": "said_no",
    "detail": "No.",
    "sku": "sku-1",
    "requested": 1,
    "available": 0,
    "undone": True,
    "points": 0,
    "points_minor": 0,
    "kind": "REFUNDED",
}


def message(message_type: type[Message], saga_id: str, **changes: Any) -> Message:
    """Build any message of the order saga."""
    envelope: dict[str, Any] = {
        "message_id": new_id(),
        "saga_id": saga_id,
        "saga_type": "order",
        "saga_version": 1,
        "causation_id": None,
        "occurred_at": datetime.now(UTC),
    }
    names = [each.name for each in fields(message_type) if each.name not in envelope]
    own: dict[str, Any] = {name: changes.get(name, FIELDS.get(name)) for name in names}
    return message_type(**envelope, **own)


def successes(saga_id: str, *, up_to: int = len(STEPS)) -> list[Message]:
    """Return the events of an order whose first ``up_to`` steps run."""
    types: list[type[Message]] = [checkout.OrderSubmitted, *(step.succeeds_with for step in ORDER.steps[:up_to])]
    return [message(each, saga_id) for each in types]


@dataclass(kw_only=True)
class TrackerPeers:
    """The services around the tracker, played by the test: it publishes for them and reads the tracker's messages."""

    stack: Stack
    codec: Codec
    engine: Engine
    http: httpx.Client
    producer: Any = None
    sent: dict[str, list[Message]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kafka = self.stack.kafka()
        self.producer = publisher.producer(kafka, client_id="test")
        self._consumer = Consumer(
            {**kafka.options(), "group.id": "test", "enable.auto.commit": False, "fetch.wait.max.ms": 50}
        )
        topics = (*ORDER.command_topics, "saga.events")
        self._consumer.assign(
            [TopicPartition(topic, p, OFFSET_BEGINNING) for topic in topics for p in range(PARTITIONS)]
        )

    def close(self) -> None:
        """Close the clients before Kafka stops."""
        self._consumer.close()
        self.producer.close()
        del self.codec
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def publish(self, *messages: Message, topic: str | None = None) -> None:
        """Publish to the topics of the messages' owners and wait for the acknowledgements."""
        for each in messages:
            target = topic or f"{each.OWNER}.events"
            self.raw(target, each.saga_id, self.codec.encode(target, each), each)
        self.producer.flush(10)

    def raw(self, topic: str, key: str, value: bytes, of: Message | None = None, **added: str) -> None:
        """Publish bytes, with the headers of a message and some more."""
        known = list(headers(of, source="test", traceparent=new_traceparent())) if of is not None else []
        extra = [(name, text.encode()) for name, text in added.items()]
        self.producer.produce(topic, key=key.encode(), value=value, headers=[*known, *extra])

    def outgoing(self, saga_id: str) -> list[Message]:
        """Return everything that the tracker has sent for a saga so far."""
        while batch := self._consumer.consume(500, 0.05):
            for each in batch:
                decoded = self.codec.decode(each.value())
                self.sent.setdefault(decoded.saga_id, []).append(decoded)
        return self.sent.get(saga_id, [])

    def awaits(self, saga_id: str, *names: str) -> list[Message]:
        """Wait until the tracker has sent exactly these messages, by name.

        On a busy machine a reply may be so late that a command is repeated; repetitions count only if they are listed.
        """

        def arrived() -> list[Message] | None:
            sent = self.outgoing(saga_id)
            first = [each for each in sent if getattr(each, "attempt", 1) == 1]
            matching = (found for found in (sent, first) if [name_of(type(each)) for each in found] == list(names))
            return next(matching, None)

        deadline = time.monotonic() + DEADLINE_S
        while (found := arrived()) is None:
            if time.monotonic() > deadline:
                pytest.fail(f"Sent {[name_of(type(each)) for each in self.outgoing(saga_id)]}, not {list(names)}")
        return found

    def one(self, statement: str, **parameters: object) -> Any:
        """Return the first row of a query, or None."""
        with self.engine.connect() as tx:
            return tx.execute(text(statement), parameters).first()

    def saga(self, saga_id: str) -> Any:
        """Return the saga's row, or None."""
        return self.one("SELECT * FROM sagas WHERE saga_id = :saga_id", saga_id=saga_id)

    @property
    def tracker_api(self) -> str:
        """The address of the tracker's API."""
        return self.stack.endpoints.url("saga-tracker-api")

    def has_recorded(self, *messages: Message) -> None:
        """Wait until these messages are on their sagas' timelines."""
        ids, saga_ids = {each.message_id for each in messages}, {each.saga_id for each in messages}

        def recorded() -> set[str]:
            return {entry.message_id for saga_id in saga_ids for entry in self.timeline(saga_id)}

        until(lambda: ids <= recorded(), "the messages are recorded")

    def becomes(self, saga_id: str, state: str) -> Any:
        """Wait until the saga has this state, and return its row."""
        return until(
            lambda: found if (found := self.saga(saga_id)) and found.state == state else None,
            f"{state}: {self.saga(saga_id)}",
        )

    def records(self) -> None:
        """Wait until a tracker has recorded, in every partition, all that Kafka had at the time of this call."""
        caught_up = "SELECT 1 FROM watermarks HAVING count(*) = :all AND min(recorded_until) > :since"
        since = datetime.now(UTC)
        until(lambda: self.one(caught_up, all=PARTITIONS, since=since), "everything so far is recorded")

    def timeline(self, saga_id: str) -> list[Any]:
        """Return the saga's timeline in order."""
        with self.engine.connect() as tx:
            statement = text("SELECT * FROM timeline WHERE saga_id = :saga_id ORDER BY seq")
            return list(tx.execute(statement, {"saga_id": saga_id}))

    def token(self, *roles: str, subject: str = "staff-1") -> dict[str, str]:
        """Return the header of a caller with these roles, who is a customer or of staff."""
        staff = self.stack.endpoints.http["issuer"][0]
        issuer = issuers.customers_of(staff) if "customer" in roles else staff
        answer = self.http.post(f"{issuer}/token", json={"sub": subject, "roles": roles, "ttl_s": 600})
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def fence_replies(saga_id: str, *ran: str) -> list[Message]:
    """Return every service's reply to the fence when exactly these steps ran."""
    return [
        message(
            saga.SagaFenced,
            saga_id,
            service=service,
            steps=tuple(
                saga.StepOutcome(step=step, state="DONE" if step in ran else "FENCED")
                for step in ORDER.steps_of(service)
            ),
        )
        for service in ORDER.services
    ]
