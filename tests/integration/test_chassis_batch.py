"""The effects table on real PostgreSQL: in whatever order messages come, an effect lives at most once.

The provider of the external step is scripted by the property: it refuses, fails, fails after the effect happened, or
answers when the caller no longer waits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from chassis.http.downstream import NotTried, TooLate, Unavailable
from chassis.saga import dead_letters, deferred
from chassis.saga.batch import Batch
from chassis.saga.deferred import Deferral, RawMessage
from chassis.saga.effects import EffectState
from chassis.saga.handlers import Handlers
from chassis.saga.retry import RetryPolicy
from chassis.saga.routing import Unprocessable
from chassis.saga.steps import COMMIT_ALLOWANCE
from chassis.saga.unit_of_work import CallResult, Delivery, Outgoing, PendingCall
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.inventory import InventoryReserved, ReleaseInventory
from messages.loyalty import LoyaltyPointsBurned, RestoreLoyaltyPoints
from messages.payment import PaymentAuthorized
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepRedriven
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from stack import Stack
from support import toy
from support.builders import a
from support.postgres import scratch_database
from support.registries import codec_of
from support.toy import PACK, PICK, SEND

COMMANDS = (FenceSaga, RedriveStep, ReleaseInventory, RestoreLoyaltyPoints, CancelShipment)
TRIGGERS = {PICK: PaymentAuthorized, PACK: InventoryReserved, SEND: LoyaltyPointsBurned}
COMPENSATIONS = {PICK: ReleaseInventory, PACK: RestoreLoyaltyPoints, SEND: CancelShipment}
STEPS = (PICK, PACK, SEND)
PARTITION = 1
ROUNDS_MAX = 60
"""Rounds of due work after which everything must have come to rest."""
STEP_S = 3.0
DEFERRED = "SELECT * FROM deferred"
PARKED = "SELECT 1 FROM deferred WHERE due_at IS NULL AND NOT behind"
DUE = "SELECT 1 FROM deferred WHERE due_at IS NOT NULL"


class Provider:
    """Keeps what it did by key. ``script`` says how each further call goes; when it is empty, all goes well."""

    def __init__(self, script: Sequence[str]) -> None:
        self.script = list(script)
        self.done: dict[str, str] = {}
        self.effects: list[str] = []

    def send(self, request: str, key: str) -> str:
        return self._do(key, "sent")

    def recall(self, request: str, key: str) -> str:
        return self._do(key, "recalled")

    def find(self, key: str) -> str | None:
        if self._next() in ("fails", "answer lost", "not tried"):
            raise Unavailable("does not answer")
        return self.done.get(key)

    def _do(self, key: str, outcome: str) -> str:
        course = self._next()
        if course == "fails":
            raise Unavailable("does not answer")
        if course == "not tried":
            raise NotTried("the circuit is open")
        if key not in self.done:
            self.done[key] = "refused" if course == "refuses" and outcome == "sent" else outcome
            self.effects.append(f"{key} {self.done[key]}")
        if course == "answer lost":
            raise Unavailable("the answer was lost")
        return self.done[key]

    def _next(self) -> str:
        return self.script.pop(0) if self.script else "well"


@dataclass(kw_only=True)
class Run:
    """One service process with its database; what a crash loses is in memory only."""

    engine: Engine
    codec: Codec
    provider: Provider
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    allowance: timedelta = COMMIT_ALLOWANCE
    calls: list[PendingCall] = field(default_factory=list)
    travelling: list[PendingCall] = field(default_factory=list)
    results: list[CallResult] = field(default_factory=list)
    emitted: list[Message] = field(default_factory=list)
    sent: dict[str, Message] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    redrives: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.handlers = Handlers.of(toy.handlers(self.provider))

    def deliver(self, messages: Sequence[Message], *, commits: bool = True) -> None:
        """Handle these messages, the results of calls that are in and what is due, in one transaction."""
        self._batch([pair for message in messages for pair in self.deliveries(message)], commits=commits)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def call(self, which: int = 0) -> None:
        """Let one call run to its end: the oldest, or the newest (-1), as calls overtake one another."""
        if self.calls:
            self.results.append(self._in_time(self.calls.pop(which)))

    def arrive(self) -> None:
        """Let a request reach the provider whose sender is gone, if its time is not over."""
        if self.travelling:
            self._in_time(self.travelling.pop())

    def crash(self) -> None:
        """Lose what was in memory; requests may already be on their way."""
        self.travelling += self.calls
        self.calls.clear()
        self.results.clear()

    def settle(self) -> None:
        """Let time pass, with a provider that is well again, until nothing is to be done."""
        self.provider.script.clear()
        while self.travelling:
            self.arrive()
        for _ in range(ROUNDS_MAX):
            while self.calls:
                self.call()
            self.advance(STEP_S)
            self.deliver(())
            if not self.calls and not self.results and not self.rows(DUE):
                return
        pytest.fail(f"Not at rest after {ROUNDS_MAX} rounds; deferred: {self.rows(DEFERRED)}")

    def publish(self) -> None:
        """Empty the outbox, as a relay does."""
        with self.engine.begin() as tx:
            tx.execute(text("DELETE FROM outbox"))

    def rows(self, query: str) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)))

    def effects(self) -> dict[str, str]:
        return {row.step: row.state for row in self.rows("SELECT step, state FROM effects")}

    def marks(self) -> dict[str, tuple[int, int]]:
        return {row.step: (row.done, row.undone) for row in self.rows("SELECT * FROM marks")}

    def deliveries(self, message: Message) -> list[tuple[str, Delivery]]:
        topic = toy.COMMANDS if isinstance(message, COMMANDS) else toy.INPUT
        raw = RawMessage(topic=topic, partition=PARTITION, key=message.saga_id.encode(), value=b"", headers=())
        delivery = Delivery(message=message, raw=raw)
        return [(name, delivery) for name in self.handlers.for_message(type(message))]

    def _batch(self, deliveries: list[tuple[str, Delivery]], *, commits: bool) -> None:
        due = self._due()
        results, self.results = self.results, []
        with self.engine.connect() as tx, tx.begin() as transaction:
            saga_ids = {delivery.message.saga_id for _, delivery in (*deliveries, *due)}
            saga_ids |= {result.call.delivery.message.saga_id for result in results}
            batch = self.batch(tx, saga_ids)
            batch.settle(results)
            batch.due(due)
            batch.deliveries(deliveries)
            out = batch.finish()
            if not commits:
                transaction.rollback()
        self._after(out) if commits else self.crash()

    def batch(self, tx: Connection, saga_ids: set[str]) -> Batch:
        return Batch(
            tx, toy.NAME, self.handlers, self.codec, saga_ids,
            now=self.now, new_id=new_id, jitter=random.Random(0), allowance=self.allowance,
        )  # fmt: skip

    def _due(self) -> list[tuple[str, Delivery]]:
        with self.engine.connect() as tx:
            rows = deferred.due(tx, [PARTITION], now=self.now, limit=100)
        return [(row.handler, Delivery.of(row, self._message(row))) for row in rows]

    def _message(self, row: Deferral) -> Message:
        """Return the message of a deferral; the service itself has deferred one that was not sent."""
        return self.sent.get(row.message_id) or self.codec.decode(row.raw.value)

    def _after(self, out: Outgoing) -> None:
        self.calls += out.calls
        for row in out.rows:
            if row.topic == toy.EVENTS:
                self.emitted.append(self.codec.decode(row.payload))
            else:
                self.dead.append(row.topic)
                self.redrives.append(dead_letters.read(row.headers).redrive)

    def _in_time(self, call: PendingCall) -> CallResult:
        if not call.is_query and self.now > call.deadline_at:
            return CallResult(call=call, failure=Unavailable("its time was over"))
        return self.result(call)

    def result(self, call: PendingCall) -> CallResult:
        try:
            if call.is_query:
                return CallResult(call=call, outcome=call.handler.call.find(call.key))
            return CallResult(call=call, outcome=call.handler.call.run(call.request, call.key))
        except Unavailable as failure:
            return CallResult(call=call, failure=failure)


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        toy.METADATA.create_all(engine)
        yield engine


@pytest.fixture(scope="module")
def codec(infrastructure: Stack) -> Iterator[Codec]:
    toy.register_schemas(infrastructure.registry_writer())
    with codec_of(infrastructure) as codec:
        yield codec


def a_run(engine: Engine, codec: Codec, script: Sequence[str] = ()) -> Run:
    with engine.begin() as tx:
        tx.execute(text("TRUNCATE effects, outbox, deferred, marks"))
    return Run(engine=engine, codec=codec, provider=Provider(script))


def the_messages(run: Run, saga_id: str) -> dict[str, Message]:
    """Return every message that one saga may meet, by a name for people."""
    found: dict[str, Message] = {f"trigger {step}": a(TRIGGERS[step], saga_id=saga_id) for step in STEPS}
    found |= {f"undo {step}": a(COMPENSATIONS[step], saga_id=saga_id, step=step) for step in STEPS}
    found |= {f"redrive {step}": a(RedriveStep, saga_id=saga_id, step=step, attempt=1) for step in STEPS}
    found["fence"] = a(FenceSaga, saga_id=saga_id, steps=STEPS)
    run.sent = {message.message_id: message for message in found.values()}
    return found


names = st.sampled_from([*(f"{what} {step}" for what in ("trigger", "undo", "redrive") for step in STEPS), "fence"])
moves: st.SearchStrategy[tuple[str, list[str]]] = st.one_of(
    st.tuples(st.just("deliver"), st.lists(names, min_size=1, max_size=4)),
    st.tuples(st.just("deliver and crash"), st.lists(names, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["call", "call newest", "arrive", "crash", "advance", "publish", "rest"]), st.just([])),
)
courses = st.lists(st.sampled_from(["well", "refuses", "fails", "answer lost", "not tried"]), max_size=12)


@settings(max_examples=100)
@given(script=courses, course=st.lists(moves, min_size=1, max_size=14))
def test_any_order_duplication_and_crash_leave_at_most_one_live_effect(
    engine: Engine, codec: Codec, script: list[str], course: list[tuple[str, list[str]]]
) -> None:
    run = a_run(engine, codec, script)
    messages = the_messages(run, new_id())
    delivered: list[str] = []
    for move, wanted in course:
        match move:
            case "deliver":
                before = run.effects()
                run.deliver([messages[name] for name in wanted])
                delivered += wanted
                assert all(run.effects()[step] == state for step, state in before.items() if state == "FENCED")
            case "deliver and crash":
                run.deliver([messages[name] for name in wanted], commits=False)
            case "call":
                run.call()
            case "call newest":
                run.call(-1)
            case "arrive":
                run.arrive()
            case "crash":
                run.crash()
            case "advance":
                run.advance(STEP_S)
            case "publish":
                run.publish()
            case _:
                run.deliver(())
    run.settle()
    check(run, messages, delivered)


def check(run: Run, messages: dict[str, Message], delivered: Sequence[str]) -> None:
    """What must be true at rest, whatever came before."""
    effects, marks = run.effects(), run.marks()
    blocked = {row.message_id for row in run.rows("SELECT message_id FROM deferred WHERE behind")}
    for step, (done, undone) in marks.items():
        assert done <= 1, f"{step} was done {done} times"
        assert undone <= done, f"{step} was undone {undone} times, and done {done} times"
        expected = {"DONE": (1, 0), "UNDONE": (1, 1)}.get(effects[step], (0, 0))
        assert (done, undone) == expected, f"{step} is {effects[step]}, but its mark says {(done, undone)}"
    answered = {message.causation_id for message in run.emitted}
    for name in set(delivered):
        if name == "fence" or name.startswith(("undo", "redrive")):
            assert messages[name].message_id in answered, f"{name} was never answered"
        if name.startswith("undo"):
            step = name.removeprefix("undo ")
            assert effects[step] in ("FENCED", "UNDONE", "REJECTED"), f"{step} is {effects[step]} after {name}"
        if name.startswith("trigger"):
            waits = messages[name].message_id in blocked
            assert waits or name.removeprefix("trigger ") in effects, f"{name} left no effect"
    assert not blocked or run.rows(PARKED), f"{blocked} are blocked by nothing"
    check_the_provider(run, effects.get(SEND))
    if "fence" in delivered:
        check_the_fence(run, effects)


def check_the_provider(run: Run, state: str | None) -> None:
    """The service and its provider agree; a call may be left open only where its dead letter says so."""
    did = " ".join(effect.partition(" ")[2] for effect in run.provider.effects)
    possible = {"DONE": ("sent",), "UNDONE": ("sent recalled",), "REJECTED": ("refused",), "FENCED": ("",)}
    expected = possible.get(state or "FENCED", ("sent", "refused", ""))
    assert did in expected, f"the provider did {did!r}, the service says {state}"
    if state == EffectState.STARTED:
        assert set(run.dead) == {"send.dlq"}, f"{SEND} is STARTED for ever; dead letters: {run.dead}"
        assert run.rows(PARKED), f"{SEND} is STARTED for ever and not parked"


def check_the_fence(run: Run, effects: dict[str, str]) -> None:
    """The reply to the fence stays true, and what did not run by then is never announced."""
    (*_, last) = [message for message in run.emitted if isinstance(message, SagaFenced)]
    reported = {outcome.step: outcome.state for outcome in last.steps}
    for step, state in reported.items():
        later = ("DONE", "UNDONE") if state == "DONE" else (state,)
        assert effects[step] in later, f"the reply to the fence reported {step} as {state}; it is {effects[step]}"
    announced = sum(isinstance(message, ShipmentBooked | ShipmentRejected) for message in run.emitted)
    assert announced <= (reported[SEND] in ("DONE", "UNDONE", "REJECTED"))


def test_a_reply_is_written_once_however_often_its_command_comes(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger pick"]])
    run.deliver([messages["undo pick"], messages["undo pick"]])
    run.deliver([messages["undo pick"]])
    replies = run.rows("SELECT id FROM outbox WHERE type LIKE '%InventoryReleased'")
    assert len(replies) == 1
    assert run.marks()[PICK] == (1, 1)


def test_an_outcome_after_the_fence_is_reported_to_the_fence_alone(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    run.deliver([messages["fence"]])
    run.settle()
    assert run.effects()[SEND] == "DONE"
    assert [type(message) for message in run.emitted] == [SagaFenced]


def test_a_provider_is_queried_only_when_the_call_can_no_longer_be_under_way(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    (call,) = run.calls
    run.crash()
    run.deliver([messages["fence"]])
    while run.now < call.deadline_at:
        run.deliver([])
        assert run.calls == [], f"queried {call.deadline_at - run.now} before the call is over"
        run.advance(1.0)
    run.deliver([])
    assert [each.is_query for each in run.calls] == [True]


def test_the_last_failure_and_the_fence_in_one_batch_do_not_block_each_other(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec, script=["fails"] * toy.QUICK.attempts_max)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    for _ in range(toy.QUICK.attempts_max - 1):
        run.call()
        run.deliver([])
        run.advance(STEP_S)
        run.deliver([])
    run.call()
    run.deliver([messages["fence"]])
    run.settle()
    assert run.effects()[SEND] == "FENCED"
    assert isinstance(run.emitted[-1], SagaFenced)


def test_an_answered_compensation_leaves_nothing_deferred(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    run.call()
    run.deliver([])
    run.deliver([messages["undo send"]])
    run.call()
    run.deliver([])
    assert run.effects() == {SEND: "UNDONE"}
    assert run.rows(DEFERRED) == []


def test_a_call_that_is_made_after_its_provider_was_queried_is_dead_lettered(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    stood_still = run.calls.pop()
    run.deliver([messages["fence"]])
    run.settle()
    assert run.effects()[SEND] == "FENCED"
    run.results.append(run.result(stood_still))
    run.deliver([])
    assert run.effects()[SEND] == "FENCED"
    assert run.dead == ["toy.dlq"]


def fenced_without_its_call(run: Run, saga_id: str) -> PendingCall:
    """Fence a saga while a call stands still, and return the call; its provider has been queried."""
    messages = the_messages(run, saga_id)
    run.deliver([messages["trigger send"]])
    stood_still = run.calls.pop()
    run.deliver([messages["fence"]])
    run.settle()
    assert run.effects()[SEND] == "FENCED"
    return stood_still


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("failure", [None, Unavailable("gave no answer")])
def test_an_effect_that_comes_after_its_fence_is_reported_and_undone(
    engine: Engine, codec: Codec, failure: Unavailable | None, crashes: bool
) -> None:
    run = a_run(engine, codec)
    stood_still = fenced_without_its_call(run, new_id())
    late = run.result(stood_still)
    run.results.append(late if failure is None else CallResult(call=stood_still, failure=failure))
    run.deliver([])
    assert run.dead == ["toy.dlq"]
    if crashes:
        run.crash()

    run.settle()

    assert run.effects()[SEND] == "UNDONE"
    check_the_provider(run, "UNDONE")
    assert run.marks()[SEND] == (1, 1)
    assert [type(message) for message in run.emitted] == [SagaFenced, ShipmentCancelled], "announced or not undone"
    assert run.rows(DEFERRED) == []


def test_a_request_that_arrives_after_its_late_call_came_back_is_found(engine: Engine, codec: Codec) -> None:
    """A query at once would hear that the provider has never seen the key."""
    run = a_run(engine, codec)
    stood_still = fenced_without_its_call(run, new_id())
    run.results.append(CallResult(call=stood_still, failure=Unavailable("gave no answer")))
    run.deliver([])
    while run.calls:
        run.call()
    run.deliver([])
    run.result(stood_still)

    run.settle()

    assert run.effects()[SEND] == "UNDONE"
    check_the_provider(run, "UNDONE")


def test_a_provider_that_is_away_is_queried_again_about_a_late_call(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    stood_still = fenced_without_its_call(run, new_id())
    run.results.append(run.result(stood_still))
    run.deliver([])
    run.provider.script = ["fails"] * 3
    for _ in range(3):
        run.call()
        run.deliver([])
        run.advance(STEP_S)
        run.deliver([])
    assert run.effects()[SEND] == "FENCED"

    run.settle()

    assert (run.effects()[SEND], run.dead) == ("UNDONE", ["toy.dlq"])


def test_what_a_late_call_did_is_undone_however_long_the_provider_is_away(engine: Engine, codec: Codec) -> None:
    """The command that undoes it is the service's own: the tracker does not send it again, its saga may be over."""
    run = a_run(engine, codec)
    stood_still = fenced_without_its_call(run, new_id())
    run.results.append(run.result(stood_still))
    for _ in range(10):
        run.deliver([])
        if run.effects()[SEND] == "DONE":
            break
        while run.calls:
            run.call()
        run.advance(STEP_S)
    assert run.effects()[SEND] == "DONE", "the provider was queried once more"
    run.provider.script = ["fails"] * (2 * RetryPolicy().attempts_max)
    for _ in range(50):
        run.deliver([])
        while run.calls:
            run.call()
        run.advance(STEP_S)
        if not run.provider.script:
            break
    assert (run.effects()[SEND], run.dead, run.provider.script) == ("DONE", ["toy.dlq"], [])

    run.settle()

    assert (run.effects()[SEND], run.dead) == ("UNDONE", ["toy.dlq"])
    check_the_provider(run, "UNDONE")


@pytest.mark.parametrize("script", [[], ["refuses"]], ids=["never arrived", "refused"])
def test_a_late_call_without_an_effect_is_reported_and_stays_fenced(
    engine: Engine, codec: Codec, script: list[str]
) -> None:
    run = a_run(engine, codec)
    stood_still = fenced_without_its_call(run, new_id())
    run.provider.script = list(script)
    if script:
        run.result(stood_still)
    run.results.append(CallResult(call=stood_still, failure=Unavailable("gave no answer")))
    run.deliver([])
    run.settle()

    assert (run.effects()[SEND], run.dead) == ("FENCED", ["toy.dlq"])
    assert [type(message) for message in run.emitted] == [SagaFenced]
    assert run.rows(DEFERRED) == []


def test_a_late_call_that_was_certainly_not_made_is_not_reported(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    stood_still = fenced_without_its_call(run, new_id())
    run.results.append(CallResult(call=stood_still, failure=NotTried("the circuit is open")))
    run.deliver([])

    assert (run.effects()[SEND], run.dead, run.calls) == ("FENCED", [], [])


def test_a_call_whose_commit_took_too_long_is_planned_again_at_once(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    first = run.calls.pop()
    run.advance(STEP_S)
    run.allowance = timedelta(seconds=6)
    run.results.append(CallResult(call=first, failure=TooLate("its transaction took too long")))
    run.deliver([])

    (second,) = run.calls
    assert (second.attempt, second.begins_by) == (1, run.now + run.allowance)
    (row,) = run.rows("SELECT state, attempt, deadline_at FROM effects")
    assert (row.state, row.attempt, row.deadline_at) == ("STARTED", 1, second.deadline_at)
    run.call()
    run.deliver([])
    assert run.effects()[SEND] == "DONE"


def test_a_late_compensation_is_planned_again_at_once(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    run.call()
    run.deliver([messages["undo send"]])
    run.results.append(CallResult(call=run.calls.pop(), failure=TooLate("its transaction took too long")))
    run.deliver([])

    assert [each.attempt for each in run.calls] == [1]
    run.call()
    run.deliver([])
    assert (run.effects()[SEND], run.rows(DEFERRED)) == ("UNDONE", [])


def test_a_call_that_is_too_late_for_its_fence_is_not_planned_again(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    first = run.calls.pop()
    run.deliver([messages["fence"]])
    run.results.append(CallResult(call=first, failure=TooLate("its transaction took too long")))
    run.deliver([])
    assert run.calls == []
    run.settle()

    assert (run.effects()[SEND], run.provider.effects) == ("FENCED", [])


def exhaust(run: Run, trigger: Message) -> None:
    """Let the provider fail until the retries of the trigger are exhausted."""
    dead_count = len(run.dead) + 1
    run.provider.script = ["fails"] * toy.QUICK.attempts_max
    run.deliver([trigger])
    while len(run.dead) < dead_count:
        run.call()
        run.deliver([])
        run.advance(STEP_S)
        run.deliver([])


def a_redrive(run: Run, saga_id: str, attempt: int, step: str = SEND) -> Message:
    message = a(RedriveStep, saga_id=saga_id, step=step, attempt=attempt)
    run.sent[message.message_id] = message
    return message


def outcomes(run: Run) -> list[str]:
    return [message.outcome for message in run.emitted if isinstance(message, StepRedriven)]


def test_a_step_whose_retries_are_exhausted_runs_again_when_it_is_redriven(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    trigger = messages["trigger send"]
    exhaust(run, trigger)
    first, second = a_redrive(run, trigger.saga_id, 1), a_redrive(run, trigger.saga_id, 2)
    run.deliver([first])
    exhaust(run, first)
    run.deliver([first, trigger])
    assert run.calls == [], "a redrive that comes again, and a trigger that comes again, run nothing"
    assert run.redrives == [0, 1], "a dead letter says how often its message had been redriven"
    run.deliver([second])
    run.settle()
    assert run.effects()[SEND] == "DONE"
    assert run.marks()[SEND] == (1, 0)
    assert run.rows(DEFERRED) == []
    run.deliver([a_redrive(run, trigger.saga_id, 3)])
    assert outcomes(run)[-2:] == ["RESUMED", "DONE"]


def test_a_fence_discards_what_was_parked_for_its_saga(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    exhaust(run, messages["trigger send"])
    run.deliver([messages["trigger pick"], messages["trigger pack"]])
    assert len(run.rows("SELECT 1 FROM deferred WHERE behind")) == 2
    run.deliver([messages["fence"]])
    run.settle()
    assert run.rows(DEFERRED) == []
    assert run.effects() == dict.fromkeys(STEPS, "FENCED")
    run.deliver([messages["redrive pick"]])
    assert outcomes(run) == ["FENCED"]


@contextmanager
def settled_late(run: Run, trigger: Message) -> Iterator[tuple[str, Delivery]]:
    """Let a process that lost its partition handle the trigger, and commit only after the block."""
    (handled,) = run.deliveries(trigger)
    with run.engine.begin() as tx:
        batch = run.batch(tx, {trigger.saga_id})
        batch.deliveries([handled])
        batch.finish()
        yield handled


def test_what_one_process_parked_while_another_settled_it_goes_with_the_next_sweep(
    engine: Engine, codec: Codec
) -> None:
    """Seed 109328 of the simulation: neither sees the other's row, and the parked one blocked what came later."""
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    trigger = messages["trigger pick"]
    with settled_late(run, trigger) as (handler_name, delivery), engine.begin() as tx:
        parking = run.batch(tx, {trigger.saga_id})
        last = replace(delivery, attempt=toy.QUICK.attempts_max)
        parking.record_failed_delivery(handler_name, last, ValueError("an unforeseen failure"))
        parking.finish()
    run.deliver([messages["trigger pack"]])
    assert run.effects() == {PICK: "DONE"}, "what comes later is blocked by what is parked"
    with engine.begin() as tx:
        assert deferred.wake_settled(tx, [PARTITION + 1], now=run.now) == 0, "that is another process's"
        assert deferred.wake_settled(tx, [PARTITION], now=run.now) == 1
    run.settle()
    assert run.rows(DEFERRED) == []
    assert run.effects() == {PICK: "DONE", PACK: "DONE"}
    assert run.marks() == {PICK: (1, 0), PACK: (1, 0)}


def test_what_an_unprocessable_message_blocks_goes_once_another_process_settled_it(
    engine: Engine, codec: Codec
) -> None:
    """Seed 171760: a release that cannot read a message parks it; read by the next one, it is blocked by itself."""
    run = a_run(engine, codec)
    trigger = the_messages(run, new_id())["trigger pick"]
    with settled_late(run, trigger) as (_, delivery):
        with engine.begin() as tx:
            batch = run.batch(tx, {trigger.saga_id})
            batch.park_unprocessable(Unprocessable(raw=delivery.raw, reason="a release that cannot read it"))
            batch.finish()
        run.deliver([trigger])
        assert len(run.rows("SELECT 1 FROM deferred WHERE behind")) == 1
    with engine.begin() as tx:
        assert deferred.wake_settled(tx, [PARTITION], now=run.now) == 1
    run.settle()
    assert [row.handler for row in run.rows(DEFERRED)] == ["unread"], "that is for an operator: its dead letter is out"
    assert run.marks() == {PICK: (1, 0)}


def test_a_parked_message_whose_step_may_still_run_is_left_to_an_operator(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    exhaust(run, the_messages(run, new_id())["trigger send"])
    with engine.begin() as tx:
        assert deferred.wake_settled(tx, [PARTITION], now=run.now) == 0
    assert len(run.rows(PARKED)) == 1


def test_a_sagas_own_events_never_overtake_each_other(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec, script=["fails"])
    messages, other = the_messages(run, new_id()), a(PaymentAuthorized)
    run.deliver([messages["trigger send"]])
    run.call()
    run.deliver([messages["trigger pick"], other])
    run.deliver([messages["trigger pack"], messages["undo pack"]])
    states = run.rows("SELECT saga_id, step, state FROM effects WHERE step <> 'send' ORDER BY step")
    assert [tuple(row) for row in states] == [
        (messages["fence"].saga_id, PACK, "FENCED"),
        (other.saga_id, PICK, "DONE"),
    ], "the retry blocks what comes later for its saga, but no command and no other saga"
    run.settle()
    in_order = [type(each) for each in run.emitted if each.saga_id != other.saga_id]
    assert in_order[-2:] == [ShipmentBooked, InventoryReserved]
    assert run.rows(DEFERRED) == []


def test_a_call_that_was_not_even_tried_is_no_attempt(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.provider.script = ["not tried"] * 3 * toy.QUICK.attempts_max
    run.deliver([messages["trigger send"]])
    while run.provider.script:
        run.call()
        run.deliver([])
        run.advance(STEP_S)
        run.deliver([])
    run.settle()
    assert run.effects()[SEND] == "DONE"
    assert run.rows("SELECT attempt FROM effects")[0].attempt == 1
    assert run.dead == []


def test_a_result_and_its_due_row_in_one_batch_count_once(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.provider.script = ["fails"] * toy.QUICK.attempts_max
    run.deliver([messages["trigger send"]])
    for _ in range(toy.QUICK.attempts_max):
        run.call()
        run.advance(2 * STEP_S)
        run.deliver([])
        run.advance(STEP_S)
        run.deliver([])
    assert run.dead == ["send.dlq"]
    assert run.calls == []
    assert len(run.rows(PARKED)) == 1


def test_a_compensation_and_its_due_row_in_one_batch_are_dead_lettered_once(engine: Engine, codec: Codec) -> None:
    run = a_run(engine, codec)
    messages = the_messages(run, new_id())
    run.deliver([messages["trigger send"]])
    run.call()
    run.deliver([])
    run.provider.script = ["fails"] * toy.QUICK.attempts_max
    run.deliver([messages["undo send"]])
    for _ in range(toy.QUICK.attempts_max):
        run.call()
        run.advance(2 * STEP_S)
        run.deliver([])
        run.advance(STEP_S)
        run.deliver([])
    assert run.dead == ["send.dlq"]
    assert run.calls == []
    assert run.rows(DEFERRED) == []
