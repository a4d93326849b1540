"""The tracker as processes, over real Kafka, PostgreSQL and the registry. The test plays the services."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from messages import checkout, inventory, loyalty, payment, saga
from messages.contract import Message, name_of
from messaging.codec import Codec, RemoteRegistry
from messaging.envelope import headers, new_id, new_traceparent
from messaging.migrations import differences
from saga_tracker import tables
from saga_tracker.definitions import newest
from saga_tracker.facts import Progress
from saga_tracker.tables import METADATA, Overtaken, SagaRow
from sqlalchemy import Engine, create_engine, text
from stack.running import Stack, up
from stack.settings import from_environment

from messaging import outbox

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, which is not ours, leaves its connections to the garbage collector."""

ORDER = newest("order")
STEPS = tuple(step.name for step in ORDER.steps)
PARTITIONS = 6
DEADLINE_S = 60.0
SHORT = {"BARAZA_TIMEOUT_FACTOR": "0.05"}
"""Every deadline of a saga in a twentieth of its time: the first step has a second."""
ADDRESS = checkout.Address(name="A", street="B", city="C", postal_code="D", country="KE")
LINES = (checkout.OrderLine(sku="sku-1", quantity=1, unit_price_minor=100),)
Found = TypeVar("Found")


def until(condition: Callable[[], Found | None], described: str, *, within_s: float = DEADLINE_S) -> Found:
    """Return the condition's first true value; fail with what was waited for."""
    give_up_at = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > give_up_at:
            pytest.fail(f"Not within {within_s} s: {described}")
        threading.Event().wait(0.05)
    return found


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
    """The events of an order whose first ``up_to`` steps run."""
    types: list[type[Message]] = [checkout.OrderSubmitted, *(step.succeeds_with for step in ORDER.steps[:up_to])]
    return [message(each, saga_id) for each in types]


@dataclass(kw_only=True)
class Wire:
    """What the services around the tracker are: they publish, and read what the tracker sends."""

    stack: Stack
    codec: Codec
    engine: Engine
    http: httpx.Client
    producer: Any = None
    sent: dict[str, list[Message]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kafka = self.stack.endpoints.kafka
        self.producer = outbox.producer(kafka, client_id="test")
        self._consumer = Consumer(
            {"bootstrap.servers": kafka, "group.id": "test", "enable.auto.commit": False, "fetch.wait.max.ms": 50}
        )
        topics = (*ORDER.command_topics, "saga.events")
        self._consumer.assign(
            [TopicPartition(topic, p, OFFSET_BEGINNING) for topic in topics for p in range(PARTITIONS)]
        )

    def close(self) -> None:
        """Leave Kafka before it goes."""
        self._consumer.close()
        self.producer.close()
        del self.codec
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def publish(self, *messages: Message, topic: str | None = None) -> None:
        """Publish on the topics of the messages' owners and wait for the acknowledgements."""
        for each in messages:
            place = topic or f"{each.OWNER}.events"
            self.raw(place, each.saga_id, self.codec.encode(place, each), each)
        self.producer.flush(10)

    def raw(self, topic: str, key: str, value: bytes, of: Message | None = None, **added: str) -> None:
        """Publish bytes, with the headers of a message and some more."""
        known = list(headers(of, source="test", traceparent=new_traceparent())) if of is not None else []
        extra = [(name, text.encode()) for name, text in added.items()]
        self.producer.produce(topic, key=key.encode(), value=value, headers=[*known, *extra])

    def outgoing(self, saga_id: str) -> list[Message]:
        """Everything that the tracker has sent for a saga so far."""
        while batch := self._consumer.consume(500, 0.05):
            for each in batch:
                decoded = self.codec.decode(each.value())
                self.sent.setdefault(decoded.saga_id, []).append(decoded)
        return self.sent.get(saga_id, [])

    def awaits(self, saga_id: str, *names: str) -> list[Message]:
        """Wait until the tracker has sent just these messages, by name.

        On a busy machine a reply may come so late that a command is sent again; those count only where asked for.
        """

        def arrived() -> list[Message] | None:
            sent = self.outgoing(saga_id)
            first = [each for each in sent if getattr(each, "attempt", 1) == 1]
            matching = (found for found in (sent, first) if [name_of(type(each)) for each in found] == list(names))
            return next(matching, None)

        give_up_at = time.monotonic() + DEADLINE_S
        while (found := arrived()) is None:
            if time.monotonic() > give_up_at:
                pytest.fail(f"Sent {[name_of(type(each)) for each in self.outgoing(saga_id)]}, not {list(names)}")
        return found

    def one(self, statement: str, **parameters: object) -> Any:
        """Return the first row of a query, or None."""
        with self.engine.connect() as tx:
            return tx.execute(text(statement), parameters).first()

    def saga(self, saga_id: str) -> Any:
        """Return the saga's row, or None."""
        return self.one("SELECT * FROM sagas WHERE saga_id = :saga_id", saga_id=saga_id)

    def becomes(self, saga_id: str, state: str) -> Any:
        """Wait until the saga has that state and return its row."""
        return until(
            lambda: found if (found := self.saga(saga_id)) and found.state == state else None,
            f"{state}: {self.saga(saga_id)}",
        )

    def timeline(self, saga_id: str) -> list[Any]:
        """Return the saga's timeline in its order."""
        with self.engine.connect() as tx:
            statement = text("SELECT * FROM timeline WHERE saga_id = :saga_id ORDER BY seq")
            return list(tx.execute(statement, {"saga_id": saga_id}))

    def token(self, *roles: str) -> dict[str, str]:
        """Return the header of a caller with these roles."""
        issuer = self.stack.endpoints.http["issuer"][0]
        answer = self.http.post(f"{issuer}/token", json={"sub": "staff-1", "roles": roles, "ttl_s": 600})
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    stack = up(from_environment(home=tmp_path_factory.mktemp("stack"), only=("saga-tracker", "saga-tracker-api")))
    engine = create_engine(stack.database_url("saga-tracker").replace("postgresql:", "postgresql+psycopg:"))
    try:
        with httpx.Client(timeout=10) as http:
            wire = Wire(
                stack=stack, codec=Codec(RemoteRegistry(stack.endpoints.registry_url)), engine=engine, http=http
            )
            yield wire
            wire.close()
    finally:
        engine.dispose()
        stack.down()


@pytest.fixture
def with_short_deadlines(wire: Wire, tmp_path: Path) -> Iterator[None]:
    """A tracker whose deadlines are short, in the place of the stack's own."""
    wire.stack.stop("saga-tracker")
    environment = os.environ | wire.stack.environment("saga-tracker") | SHORT
    with (tmp_path / "tracker.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "saga_tracker.main"], env=environment, stderr=log)
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (tmp_path / "tracker.log").read_text()
    wire.stack.start("saga-tracker")


def test_the_migrations_make_the_tables_that_the_code_declares(wire: Wire) -> None:
    with wire.engine.connect() as tx:
        assert differences(METADATA, tx) == []


@pytest.mark.parametrize("order", ["as they happen", "reversed", "shuffled", "each twice"])
def test_an_order_whose_steps_all_run_is_confirmed_once_in_any_order_of_arrival(wire: Wire, order: str) -> None:
    saga_id = new_id()
    events = successes(saga_id)
    arriving = {"reversed": events[::-1], "each twice": events * 2}.get(order, list(events))
    if order == "shuffled":
        random.Random(saga_id).shuffle(arriving)
    for event in arriving:
        wire.publish(event)
    until(lambda: len(wire.timeline(saga_id)) == len(events) + 1, "every event once, and the last event")
    row = wire.becomes(saga_id, "CONFIRMED")
    assert (row.subject, row.phase, row.deadline_at) == ("customer-1", "ENDED", None)
    (confirmed,) = wire.awaits(saga_id, "OrderConfirmed")
    assert isinstance(confirmed, saga.OrderConfirmed)
    assert confirmed.causation_id in {event.message_id for event in events}


def test_a_rejection_is_compensated_in_reverse_each_after_the_reply_to_the_one_before(wire: Wire) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=2), message(loyalty.LoyaltyPointsRejected, saga_id))
    (release,) = wire.awaits(saga_id, "ReleaseInventory")
    assert isinstance(release, inventory.ReleaseInventory)
    assert (release.step, release.attempt, release.reason) == ("reserve_inventory", 1, "said_no")
    wire.publish(message(inventory.InventoryReleased, saga_id, step="reserve_inventory"))
    wire.awaits(saga_id, "ReleaseInventory", "RefundPayment")
    wire.publish(message(payment.PaymentRefunded, saga_id, step="authorize_payment"))
    row = wire.becomes(saga_id, "CANCELLED_COMPENSATED")
    assert (row.cause, row.step, row.reason) == ("REJECTED", "burn_loyalty_points", "said_no")
    *_, failed = wire.awaits(saga_id, "ReleaseInventory", "RefundPayment", "OrderFailed")
    assert isinstance(failed, saga.OrderFailed)
    assert (failed.cause, failed.step, failed.started_at) == ("REJECTED", "burn_loyalty_points", row.started_at)
    kinds = [(entry.kind, entry.type) for entry in wire.timeline(saga_id)]
    assert ("command", "RefundPayment") in kinds
    assert ("reply", "PaymentRefunded") in kinds


def fence_replies(saga_id: str, *ran: str) -> list[Message]:
    """Every service's answer to the fence when just these steps ran."""
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


def publish_fenced(wire: Wire, replies: Iterable[Message]) -> None:
    for reply in replies:
        assert isinstance(reply, saga.SagaFenced)
        wire.publish(reply, topic=f"{reply.service}.events")


@pytest.mark.usefixtures("with_short_deadlines")
def test_a_step_that_times_out_is_fenced_and_its_late_success_compensated(wire: Wire) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=1))
    fences = wire.awaits(saga_id, *["FenceSaga"] * len(ORDER.services))
    assert {each.steps for each in fences if isinstance(each, saga.FenceSaga)} == {
        ORDER.steps_of(service) for service in ORDER.services
    }
    publish_fenced(wire, fence_replies(saga_id, "authorize_payment", "reserve_inventory"))
    names = ["FenceSaga"] * len(ORDER.services)
    wire.awaits(saga_id, *names, "ReleaseInventory")
    wire.publish(message(inventory.InventoryReleased, saga_id, step="reserve_inventory"))
    wire.awaits(saga_id, *names, "ReleaseInventory", "RefundPayment")
    wire.publish(message(payment.PaymentRefunded, saga_id, step="authorize_payment"))
    row = wire.becomes(saga_id, "CANCELLED_COMPENSATED")
    assert (row.cause, row.step) == ("TIMED_OUT", "reserve_inventory")
    entries = wire.timeline(saga_id)
    (timer,) = [entry for entry in entries if entry.kind == "timer"]
    assert (timer.type, timer.step) == ("TimedOut", "reserve_inventory")
    assert [entry.detail for entry in entries if entry.late] == ["reserve_inventory DONE"]


@pytest.mark.usefixtures("with_short_deadlines")
def test_a_command_without_a_reply_is_sent_again_and_a_reply_still_counts(wire: Wire) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=1), message(inventory.InventoryRejected, saga_id))
    first, second = wire.awaits(saga_id, "RefundPayment", "RefundPayment")
    assert first.message_id != second.message_id
    assert [each.attempt for each in (first, second) if isinstance(each, payment.RefundPayment)] == [1, 2]
    wire.publish(message(payment.PaymentRefunded, saga_id, step="authorize_payment"))
    wire.becomes(saga_id, "CANCELLED_COMPENSATED")


def test_a_deadline_waits_until_everything_that_kafka_had_by_then_is_recorded(wire: Wire) -> None:
    late, early = new_id(), new_id()
    wire.publish(message(checkout.OrderSubmitted, late), message(checkout.OrderSubmitted, early))
    begun_at = datetime.now(UTC)
    for saga_id in (late, early):
        wire.becomes(saga_id, "PENDING")
    caught_up = "SELECT 1 FROM watermarks HAVING count(*) = :all AND min(recorded_until) > :begun_at"
    until(lambda: wire.one(caught_up, all=PARTITIONS, begun_at=begun_at), "everything so far is recorded")
    (kafka,) = wire.stack.pids("kafka")
    os.kill(kafka, signal.SIGSTOP)
    try:
        with wire.engine.begin() as tx:
            # Begun long ago, so that nothing else can put the deadline off.
            deadlines = text(
                "UPDATE sagas SET started_at = now() - interval '1 day', "
                "deadline_at = now() - :ago * interval '1 hour' WHERE saga_id = :saga_id"
            )
            tx.execute(deadlines, [{"saga_id": late, "ago": 0}, {"saga_id": early, "ago": 1}])
        until(lambda: timers(wire, early), "the deadline of an hour ago is recorded")
        assert timers(wire, late) == [], "Kafka was silent: the answer may be there"
    finally:
        os.kill(kafka, signal.SIGCONT)
    until(lambda: timers(wire, late), "the deadline is recorded once Kafka has told that there is no answer")


def timers(wire: Wire, saga_id: str) -> list[Any]:
    return [entry for entry in wire.timeline(saga_id) if entry.kind == "timer"]


def take_everything(wire: Wire, service: str, topic: str) -> None:
    """Commit, as the service does, that it has taken all that is on a topic."""
    group = Consumer({"bootstrap.servers": wire.stack.endpoints.kafka, "group.id": service})
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    ends = [TopicPartition(topic, place.partition, group.get_watermark_offsets(place, 10)[1]) for place in places]
    group.commit(offsets=ends, asynchronous=False)
    group.close()


@pytest.mark.usefixtures("with_short_deadlines")
def test_a_step_has_its_time_once_its_service_has_taken_the_trigger(wire: Wire) -> None:
    saga_id = new_id()
    wire.publish(*successes(saga_id, up_to=3))
    put_off = "book_shipment to be taken by shipping"
    until(lambda: (row := wire.saga(saga_id)) and row.waiting == put_off, "the deadline is put off")
    assert timers(wire, saga_id) == []
    take_everything(wire, "shipping", "loyalty.events")
    (timer,) = until(lambda: timers(wire, saga_id), "the step is overdue")
    whole = timedelta(seconds=ORDER.deadline_s * float(SHORT["BARAZA_TIMEOUT_FACTOR"]))
    assert timer.step == "book_shipment"
    assert timer.deadline_at < wire.saga(saga_id).started_at + whole, "it ended by the step's time, not by the saga's"


def test_a_worker_that_was_overtaken_does_not_overwrite_what_another_has_recorded(wire: Wire) -> None:
    first, second = (
        SagaRow(
            saga_id=saga_id, saga_type="order", saga_version=1, partition=0, started_at=datetime.now(UTC),
            progress=Progress(ran=frozenset({step})),
        )
        for saga_id in [new_id()]
        for step in STEPS[:2]
    )  # fmt: skip
    for row, refused in ((first, False), (second, True)):
        with pytest.raises(Overtaken) if refused else nullcontext(), wire.engine.begin() as tx:
            tables.save(tx, [row], now=datetime.now(UTC))
    assert wire.saga(first.saga_id).progress["known"] == {"ran": [STEPS[0]]}


def test_text_that_the_database_cannot_hold_stops_nothing(wire: Wire) -> None:
    cause, steps, trace = new_id(), new_id(), new_id()
    of_nobody = replace(message(checkout.OrderSubmitted, cause), causation_id="a\x00b")
    odd = message(saga.SagaFenced, steps, service="payment", steps=(saga.StepOutcome(step="a\x00b", state="DONE"),))
    wire.publish(of_nobody, topic="checkout.events")
    wire.publish(odd, topic="payment.events")
    traced = message(checkout.OrderSubmitted, trace)
    wire.raw("checkout.events", trace, wire.codec.encode("checkout.events", traced), traced, traceparent="00-a\x00b")
    wire.producer.flush(10)
    wire.becomes(cause, "NEEDS_REVIEW")
    wire.becomes(steps, "NEEDS_REVIEW")
    wire.becomes(trace, "PENDING")


def test_a_message_that_nobody_can_read_parks_its_saga_and_stops_nothing_else(wire: Wire) -> None:
    saga_id, other = new_id(), new_id()
    wire.publish(message(checkout.OrderSubmitted, saga_id))
    wire.becomes(saga_id, "PENDING")
    wire.raw("payment.events", saga_id, b"\x00\x00\x0f\x42\x40garbage")
    wire.raw("payment.events", saga_id, b"")
    row = wire.becomes(saga_id, "NEEDS_REVIEW")
    assert "saga-tracker" in row.reason
    wire.publish(*successes(other))
    wire.becomes(other, "CONFIRMED")
    wire.publish(*successes(saga_id)[1:])
    wire.becomes(saga_id, "CONFIRMED")


@pytest.mark.parametrize(("step", "state"), [("book_shipment", "PENDING"), ("reserve_inventory", "NEEDS_REVIEW")])
def test_a_dead_letter_gives_a_saga_up_or_parks_it_as_its_definition_says(wire: Wire, step: str, state: str) -> None:
    saga_id = new_id()
    events = successes(saga_id)
    place = STEPS.index(step)
    wire.publish(*events[: place + 1])
    trigger = events[place]
    topic = f"{trigger.OWNER}.events"
    letter = {"baraza_service": ORDER.steps[place].service, "baraza_step": step, "baraza_reason": "it is down"}
    wire.raw(
        f"{step}.dlq",
        saga_id,
        wire.codec.encode(topic, trigger),
        trigger,
        **letter,
        baraza_attempts="3",
        baraza_topic=topic,
    )
    wire.producer.flush(10)
    until(lambda: any(entry.kind == "dead_letter" for entry in wire.timeline(saga_id)), "the dead letter's entry")
    row = wire.saga(saga_id)
    assert (row.state, row.phase) == (state, "FENCING" if state == "PENDING" else "RUNNING")


def test_a_tracker_that_is_killed_in_mid_stream_loses_and_repeats_nothing(wire: Wire) -> None:
    saga_ids = [new_id() for _ in range(400)]
    events = [event for saga_id in saga_ids for event in successes(saga_id)]
    random.Random(7).shuffle(events)
    third = len(events) // 3
    for round_, part in enumerate((events[:third], events[third : 2 * third], events[2 * third :])):
        wire.publish(*part)
        if round_ < 2:
            until(lambda: wire.stack.pids("saga-tracker"), "the tracker runs again")
            wire.stack.kill("saga-tracker", signal.SIGKILL)
    counts = "SELECT count(*) FILTER (WHERE state = 'CONFIRMED') AS confirmed FROM sagas WHERE saga_id = ANY(:saga_ids)"
    until(lambda: wire.one(counts, saga_ids=saga_ids).confirmed == len(saga_ids), "all are confirmed", within_s=60)
    entries = "SELECT count(*) AS entries FROM timeline WHERE saga_id = ANY(:saga_ids)"
    expected = len(events) + len(saga_ids)
    until(lambda: wire.one(entries, saga_ids=saga_ids).entries == expected, "every message is on a timeline, once")
    for saga_id in saga_ids:
        confirmed = (
            wire.awaits(saga_id, "OrderConfirmed") if len(wire.outgoing(saga_id)) <= 1 else wire.outgoing(saga_id)
        )
        assert len({each.message_id for each in confirmed}) == 1
    until(lambda: wire.one("SELECT count(*) AS rows FROM outbox").rows == 0, "the outbox is drained")


def test_a_saga_is_cancelled_by_staff_and_one_that_has_ended_is_not(wire: Wire) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    saga_id, ended = new_id(), new_id()
    wire.publish(*successes(saga_id, up_to=1), *successes(ended))
    wire.becomes(saga_id, "PENDING")
    wire.becomes(ended, "CONFIRMED")
    support = wire.token("support")
    body = {"reason": "the customer called"}
    assert wire.http.post(f"{url}/v1/sagas/{saga_id}/cancel", json=body).status_code == 401
    assert (
        wire.http.post(f"{url}/v1/sagas/{saga_id}/cancel", json=body, headers=wire.token("customer")).status_code == 403
    )
    assert wire.http.post(f"{url}/v1/sagas/{ended}/cancel", json=body, headers=support).status_code == 409
    assert wire.http.post(f"{url}/v1/sagas/{new_id()}/cancel", json=body, headers=support).status_code == 404
    answer = wire.http.post(f"{url}/v1/sagas/{saga_id}/cancel", json=body, headers=support)
    assert answer.status_code == 202
    wire.awaits(saga_id, *["FenceSaga"] * len(ORDER.services))
    (act,) = [entry for entry in wire.timeline(saga_id) if entry.kind == "act"]
    assert (act.message_id, act.detail) == (answer.json()["command_id"], "staff-1: the customer called")
    wire.publish(message(saga.CancelSaga, ended, actor="staff-2", reason="too late"), topic="saga.commands")
    (refused,) = until(lambda: [entry for entry in wire.timeline(ended) if entry.kind == "act"], "the refused act")
    assert "refused" in refused.detail
    assert wire.saga(ended).state == "CONFIRMED"


def test_sagas_are_found_by_what_people_know_of_them_page_by_page(wire: Wire) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    staff, customer = wire.token("support"), f"customer-{new_id()}"
    mine = [new_id() for _ in range(5)]
    for saga_id in mine:
        wire.publish(message(checkout.OrderSubmitted, saga_id, customer_id=customer))
    until(lambda: all(wire.saga(saga_id) for saga_id in mine), "all are recorded")

    def page(**query: Any) -> Any:
        return wire.http.get(f"{url}/v1/sagas", params={"customer": customer, **query}, headers=staff).json()

    first = page(limit=2)
    second = page(limit=2, cursor=first["next_cursor"])
    third = page(limit=2, cursor=second["next_cursor"])
    found = [each["saga_id"] for answer in (first, second, third) for each in answer["sagas"]]
    assert found == mine[::-1]
    assert third["next_cursor"] is None
    assert page(state="CONFIRMED")["sagas"] == []
    assert len(page(step="authorize_payment", state="PENDING", type="order")["sagas"]) == 5
    assert page(older_than_s=3_600)["sagas"] == []
    assert page(limit=201)["status"] == 422
    assert page(cursor="bm9uZQ")["errors"][0]["pointer"] == "query:cursor"


def test_a_timeline_says_what_happened_and_how_fresh_that_is(wire: Wire) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    staff, saga_id = wire.token("operator"), new_id()
    events = successes(saga_id, up_to=2)
    wire.publish(*events)
    until(lambda: len(wire.timeline(saga_id)) == 3, "three entries")

    def fresh() -> Any:
        answer = wire.http.get(f"{url}/v1/sagas/{saga_id}/timeline", headers=staff).json()
        as_of = answer["freshness"]["as_of"]
        return answer if as_of and datetime.fromisoformat(as_of) > events[-1].occurred_at else None

    timeline = until(fresh, "a timeline that is fresher than its last event")
    assert {entry["message_id"] for entry in timeline["entries"]} == {event.message_id for event in events}
    assert 0 <= timeline["freshness"]["lag_s"] < DEADLINE_S
    detail = wire.http.get(f"{url}/v1/sagas/{saga_id}", headers=staff).json()
    assert [step["outcome"] for step in detail["steps"]] == ["ran", "ran", "waiting", "not_run", "not_run", "not_run"]


def test_a_live_timeline_goes_on_behind_the_last_event_and_ends_with_the_saga(wire: Wire) -> None:
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    staff, saga_id = wire.token("support"), new_id()
    events = successes(saga_id)
    wire.publish(events[0])
    (first,) = until(lambda: wire.timeline(saga_id), "the first entry")
    seen: list[str] = []
    stream = f"{url}/v1/sagas/{saga_id}/timeline/stream"
    with wire.http.stream("GET", stream, headers=staff) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            seen += [line] if line.startswith(("id:", "event:")) else []
            if line == "event: freshness" and len(seen) < 5:
                wire.publish(*events[1:])
    assert seen.count("event: entry") == len(events) + 1
    assert seen[-1] == "event: end"
    resumed = wire.http.get(stream, headers=staff | {"Last-Event-ID": str(first.seq)}).text
    assert resumed.count("event: entry") == len(events)


def assignments(log: Path) -> list[list[int]]:
    """The partitions that a tracker was assigned, one list an assignment."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"Partitions assigned."' in line]
    return [line["partitions"] for line in lines]


def test_the_api_keeps_to_its_description(wire: Wire, tmp_path: Path) -> None:
    """Requests that fit the description may still be refused: it cannot say which sagas there are.

    The stream is left out: it ends with its saga, which may be never.
    """
    url = wire.stack.endpoints.http["saga-tracker-api"][0]
    authorization = wire.token("operator")["Authorization"]
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
        *("--header", f"Authorization: {authorization}", "--exclude-checks", "positive_data_acceptance"),
        *(
            "--exclude-path",
            "/readyz",
            "--exclude-path-regex",
            "stream$",
            "--max-examples",
            "20",
            "--seed",
            "1",
            "--no-color",
        ),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout


def test_two_trackers_share_the_partitions_and_one_of_them_may_die(wire: Wire, tmp_path: Path) -> None:
    environment = os.environ | wire.stack.environment("saga-tracker") | {"BARAZA_HTTP_PORT": "0"}
    with (tmp_path / "tracker.log").open("w") as log:
        second = subprocess.Popen([sys.executable, "-m", "saga_tracker.main"], env=environment, stderr=log)
    until(
        lambda: '"Partitions assigned."' in (tmp_path / "tracker.log").read_text(), "the second tracker has partitions"
    )
    saga_ids = [new_id() for _ in range(60)]
    events = [successes(saga_id) for saga_id in saga_ids]
    wire.publish(*(event for each in events for event in each[:4]))
    second.kill()
    second.wait()
    wire.publish(*(event for each in events for event in each[4:]))
    counts = "SELECT count(*) AS entries FROM timeline WHERE saga_id = ANY(:saga_ids)"
    expected = len(saga_ids) * (len(STEPS) + 2)
    until(lambda: wire.one(counts, saga_ids=saga_ids).entries == expected, "every message is recorded, once")
    for saga_id in saga_ids:
        wire.becomes(saga_id, "CONFIRMED")
