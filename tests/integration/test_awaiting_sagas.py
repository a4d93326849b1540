"""A saga with a step whose outcome comes later, on real PostgreSQL: it waits visibly, and no sweep ends that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, Row, text

from chassis.postgres import migrations
from chassis.saga.deferred import RawMessage
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.checkout import OrderCancellationRequested, OrderSubmitted
from messages.contract import Message
from messages.inventory import InventoryReleased, InventoryReserved
from messages.ledger import LedgerPosted
from messages.saga import (
    CancellationDecided,
    FenceSaga,
    OperatorActed,
    OrderConfirmed,
    OrderFailed,
    SagaFenced,
    StepAwaited,
    StepContradicted,
)
from messages.shipping import ShipmentBooked, ShipmentRejected
from proof.awaited_models import PAYOUT_3
from proof.schemas import LocalRegistry
from saga_tracker.http import previews
from saga_tracker.ingest.deadlines import Deadlines
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.ingest.records import Record
from saga_tracker.model.references import Reference
from saga_tracker.model.saga import DECISIONS_TOPIC, ReferenceDefinition
from saga_tracker.store import consumed_offsets, plans, references, saga_lists
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.plans import ActKind
from saga_tracker.store.saga_lists import Filters
from saga_tracker.store.selections import Selection
from stack import Stack
from support.builders import a
from support.postgres import scratch_database

AT = datetime(2026, 11, 29, 10, tzinfo=UTC)
CODEC = Codec(LocalRegistry())
TOPICS = tuple(f"{service}.events" for service in ("checkout", "inventory", "shipping", "ledger"))
TRACKED = ReferenceDefinition(kind="shipment", event=ShipmentBooked, field="tracking_number")
ROW = text("""
    SELECT state, awaits_since, deadline_at, reason, contradicted_at, settled_at, settled_by
    FROM sagas
    WHERE saga_id = :id
""")
DEFINITIONS = {("order", 1): replace(PAYOUT_3, references=(TRACKED,))}


class Tracker:
    """The tracker of one saga, without Kafka: messages are recorded in the order given."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.now, self.saga_id = engine, AT, new_id()
        self._cache = SagaCache()
        self._recorder = Recorder(DEFINITIONS, CODEC, self._cache)
        self._offsets = dict.fromkeys(((topic, 0) for topic in (*TOPICS, DECISIONS_TOPIC)), 0)
        with engine.begin() as tx:
            consumed_offsets.begin(tx, self._offsets)
        self._recorder.begin(self._offsets)

    def read(self, message: Message, topic: str) -> list[Message]:
        """Record a message, and return what is sent because of it."""
        return self._record(topic, CODEC.encode(topic, message))

    def _record(self, topic: str, value: bytes) -> list[Message]:
        key = self.saga_id.encode()
        raw = RawMessage(topic=topic, partition=0, key=key, value=value, headers=())
        record = Record(raw=raw, offset=self._offsets[topic, 0], timestamp_ms=int(self.now.timestamp() * 1_000))
        self._offsets[topic, 0] += 1
        with self.engine.begin() as tx:
            recorded = self._recorder.record(tx, [record], now=self.now)
        self._recorder.committed(recorded)
        return [CODEC.decode(row.payload) for row in recorded.rows]

    def event(self, message_type: type[Message], **given: object) -> list[Message]:
        """Record an event of the saga on its service's topic."""
        service = str(given.get("service", message_type.OWNER))
        return self.read(a(message_type, saga_id=self.saga_id, **given), f"{service}.events")

    def read_back(self, sent: Sequence[Message]) -> list[Message]:
        """Record the decisions among what was sent, as Kafka returns them, and return what is sent because of them."""
        own = [each for each in sent if isinstance(each, CancellationDecided | OperatorActed)]
        return [found for each in own for found in self.read(each, DECISIONS_TOPIC)]

    @property
    def row(self) -> Row[tuple[object, ...]]:
        with self.engine.connect() as connection:
            return connection.execute(ROW, {"id": self.saga_id}).one()

    def awaiting(self) -> list[str]:
        """Return the sagas that the API lists as waiting for an outcome that comes later."""
        with self.engine.connect() as connection:
            page = saga_lists.page(connection, Filters(is_awaiting=True), cursor=None, limit=10)
        return [each.saga_id for each in page.sagas]

    def contradicted(self) -> list[str]:
        """Return the sagas that the API lists as contradicted and open."""
        with self.engine.connect() as connection:
            page = saga_lists.page(connection, Filters(is_unsettled=True), cursor=None, limit=10)
        return [each.saga_id for each in page.sagas]

    def settle(self) -> list[Message]:
        """Settle the saga as an operator, and return what the tracker sends because of it."""
        acts = OperatorActs(DEFINITIONS, CODEC, self._cache)
        with self.engine.begin() as tx:
            selection = Selection(saga_ids=[self.saga_id])
            plan = previews.make(tx, DEFINITIONS, ActKind.SETTLE, selection, by="ops-1", now=self.now)
            plans.apply(tx, plan.plan_id, by="ops-1", reason="collected", rate_per_s=1, now=self.now)
            rows = acts.apply_next(tx, [0], now=self.now)
        return self.read_back([CODEC.decode(row.payload) for row in rows])

    def orphans(self) -> int:
        """Return how many sagas the sweep for orphans would wake."""
        with self.engine.begin() as tx:
            Deadlines(DEFINITIONS, CODEC, self._cache).wake_orphans(tx, [0], now=self.now)
            return int(tx.execute(text("SELECT count(*) FROM timeline WHERE type = 'Orphaned'")).scalar_one())


@pytest.fixture
def tracker(infrastructure: Stack) -> Iterator[Tracker]:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade("saga_tracker", engine)
        yield Tracker(engine)


def awaited(tracker: Tracker) -> None:
    """Let the saga come to its awaited step, whose first attempt is begun."""
    tracker.event(OrderSubmitted)
    tracker.event(InventoryReserved)
    assert tracker.row.deadline_at is not None
    tracker.now += timedelta(seconds=1)
    step = {"service": "shipping", "step": "book_shipment", "attempt": 1}
    assert tracker.event(StepAwaited, **step, undo=False, key="k", since=tracker.now) == []


def contradicted(tracker: Tracker, **given: object) -> list[Message]:
    evidence = {"recorded": "FAILED", "proven": "SUCCEEDED", "source": "statement", "reference": "row 812"}
    step = {"service": "shipping", "step": "book_shipment", "attempt": 1, "undone_by_service": False}
    return tracker.event(StepContradicted, **{**step, **evidence, "occurred_at": tracker.now, **given})


def fenced(tracker: Tracker, service: str, **states: str) -> list[Message]:
    steps = [{"step": step, "state": state} for step, state in states.items()]
    return tracker.event(SagaFenced, service=service, steps=steps)


def test_a_saga_that_awaits_an_outcome_has_no_deadline_and_is_no_orphan(tracker: Tracker) -> None:
    awaited(tracker)
    assert tracker.row == ("PENDING", AT + timedelta(seconds=1), None, None, None, None, None)
    assert tracker.awaiting() == [tracker.saga_id]
    tracker.now += timedelta(days=90)
    assert tracker.orphans() == 0
    tracker.event(ShipmentBooked)
    assert tracker.row.awaits_since is None
    assert tracker.row.deadline_at is not None, "the step behind it has one"
    assert tracker.awaiting() == []
    (last,) = tracker.event(LedgerPosted)
    assert isinstance(last, OrderConfirmed)


def test_a_cancelled_saga_is_in_doubt_until_it_is_known_to_be_paid_and_then_goes_forward(tracker: Tracker) -> None:
    awaited(tracker)
    sent = tracker.read_back(tracker.event(OrderCancellationRequested))
    assert {each.OWNER for each in sent} == {FenceSaga.OWNER}
    assert [set(each.steps) for each in sent if isinstance(each, FenceSaga)] == [
        {"reserve_inventory"},
        {"book_shipment"},
    ], "no step behind the one without a return is fenced"
    assert fenced(tracker, "inventory", reserve_inventory="DONE") == []
    assert fenced(tracker, "shipping", book_shipment="IN_DOUBT") == []
    assert (tracker.row.state, tracker.row.awaits_since) == ("IN_DOUBT", AT + timedelta(seconds=1))
    tracker.now += timedelta(days=30)
    assert tracker.orphans() == 0
    assert tracker.awaiting() == [tracker.saga_id]
    assert tracker.event(ShipmentBooked) == [], "nothing is compensated"
    assert fenced(tracker, "shipping", book_shipment="DONE") == []
    (last,) = tracker.event(LedgerPosted)
    assert isinstance(last, OrderConfirmed)


def test_a_saga_is_found_by_the_numbers_of_its_events_and_by_its_id(tracker: Tracker) -> None:
    awaited(tracker)
    tracker.event(ShipmentBooked, tracking_number="BRZ-17")
    tracker.event(ShipmentBooked, tracking_number="BRZ-17")

    def found(*references: str) -> list[str]:
        with tracker.engine.connect() as connection:
            page = saga_lists.page(connection, Filters(references=references), cursor=None, limit=10)
        return [each.saga_id for each in page.sagas]

    assert found("BRZ-17") == [tracker.saga_id]
    assert found(tracker.saga_id) == [tracker.saga_id]
    assert found("BRZ-18") == []
    other = new_id()
    with tracker.engine.begin() as tx:
        rows = [Reference(saga_id=saga_id, kind="shipment", value="BRZ-17") for saga_id in (other, tracker.saga_id)]
        references.save(tx, rows)
    assert found("BRZ-17") == [tracker.saga_id], "a reference without a saga shows none"


def test_a_contradiction_freezes_the_saga_and_is_shown(tracker: Tracker) -> None:
    awaited(tracker)
    assert contradicted(tracker) == []
    state, _, deadline_at, reason, *_ = tracker.row
    assert (state, deadline_at) == ("INCIDENT", None)
    assert reason == "book_shipment: attempt 1 was FAILED, and is SUCCEEDED by statement row 812"
    tracker.now += timedelta(days=2)
    assert tracker.orphans() == 0
    assert tracker.contradicted() == [tracker.saga_id]
    assert tracker.settle() == []
    assert (tracker.row.state, tracker.contradicted()) == ("INCIDENT", [])


def test_a_saga_that_has_ended_is_open_while_it_is_contradicted_until_an_operator_settles_it(tracker: Tracker) -> None:
    awaited(tracker)
    tracker.event(ShipmentRejected, reason="failed")
    (last,) = tracker.event(InventoryReleased, step="reserve_inventory")
    assert isinstance(last, OrderFailed)
    assert contradicted(tracker, attempt=2, undone_by_service=True) == []
    assert (tracker.row.contradicted_at, tracker.contradicted()) == (None, [])

    assert contradicted(tracker) == []
    since = tracker.now
    assert (tracker.row.state, tracker.row.contradicted_at) == ("CANCELLED_COMPENSATED", since)
    assert tracker.contradicted() == [tracker.saga_id]
    tracker.now += timedelta(hours=1)
    assert tracker.settle() == []
    assert tracker.row[4:] == (since, tracker.now, "ops-1")
    assert (tracker.row.state, tracker.contradicted()) == ("CANCELLED_COMPENSATED", [])
    assert tracker.settle() == [], "nothing is left to settle"

    assert contradicted(tracker, attempt=3) == []
    assert (tracker.row.contradicted_at, tracker.row.settled_at) == (since, None)
    assert tracker.contradicted() == [tracker.saga_id], "the next one opens it again"
