"""A step whose outcome comes later, on real PostgreSQL: called once Kafka knows of it, settled by evidence alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from chassis.http.downstream import TooLate, Unavailable
from chassis.saga import attempt_rows, deferred, evidence
from chassis.saga.answers import Accepted, NotFound, Proven, Settlement
from chassis.saga.attempts import AwaitedPolicy, Outcome
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.evidence import Claim, Fate, Received, Source, StoredEvidence
from chassis.saga.handlers import Handlers
from chassis.saga.ladder import Ladder
from chassis.saga.routing import Work
from chassis.saga.schema import service_metadata
from chassis.saga.steps import AwaitedCall, AwaitedCompensation, AwaitedStep, Compensation
from chassis.saga.triggers import SagaTrigger
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, AwaitedResult, Delivery, Outgoing
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Envelope, Message
from messages.loyalty import LoyaltyPointsBurned
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepAwaited, StepContradicted, StepRedriven
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from proof.schemas import LocalRegistry
from stack import Stack
from support.builders import a
from support.postgres import scratch_database
from support.toy import COMMANDS, INPUT, MARKS, Marks, _load, _save, _undo, _work
from support.toy import Work as Wanted

PAY = "pay"
CODEC = Codec(LocalRegistry())
AT = datetime(2026, 11, 29, 10, tzinfo=UTC)
LADDER = Ladder(waits_s=(30, 60, 3_600), ends_after_s=10_000)
PAYOUT = AwaitedPolicy(no_return=True, sends_max=3)
CARD = AwaitedPolicy(no_return=False, can_cancel=True)


@dataclass
class Bank:
    """A provider that answers what a test has laid out for the next call, and keeps what it was sent."""

    answers: list[object] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    queried: list[tuple[str, str | None]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def send(self, request: str, key: str) -> Any:
        self.sent.append(key)
        return self._next()

    def query(self, key: str, provider_id: str | None) -> Any:
        self.queried.append((key, provider_id))
        return self._next()

    def cancel(self, key: str, provider_id: str | None) -> Any:
        self.cancelled.append(key)
        return self._next()

    def _next(self) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def published(_event: LoyaltyPointsBurned, settlement: Settlement, envelope: Envelope) -> Message:
    if settlement.is_done:
        number = settlement.proof.reference or ""
        return ShipmentBooked(**envelope, customer_id="c", currency="USD", payable_minor=1, tracking_number=number)
    return ShipmentRejected(**envelope, reason=settlement.proof.outcome.value, detail="")


def recorded(request: Wanted, settlement: Settlement, marks: Marks) -> None:
    if request.customer_id == "poison":
        raise RuntimeError("a handler of ours fails")
    if settlement.is_done:
        marks.done.append(request.saga_id)


def handlers(bank: Bank, policy: AwaitedPolicy, *, refunds_later: bool = False) -> Handlers:
    compensation = Compensation(
        on=CancelShipment, undoes=(PAY,), load=_load(PAY), decide=_undo(ShipmentCancelled), save=_save,
        replies=(ShipmentCancelled,),
    )  # fmt: skip
    refund = AwaitedCompensation(
        on=CancelShipment, undoes=(PAY,), load=_load(PAY), decide=_undo(ShipmentCancelled), save=_save,
        replies=(ShipmentCancelled,), ladder=LADDER, sends_max=2,
        call=AwaitedCall(prepare=prepared, send=bank.send, query=bank.query),
    )  # fmt: skip
    step = AwaitedStep(
        name=PAY,
        triggers=(
            SagaTrigger(
                saga="order", versions=(1,), on=LoyaltyPointsBurned, read=_work, publish=published,
                succeeds_with=ShipmentBooked, rejected_with=ShipmentRejected,
            ),
        ),
        policy=policy, ladder=LADDER, load=_load(PAY), record=recorded, save=_save,
        call=AwaitedCall(prepare=prepared, send=bank.send, query=bank.query, cancel=bank.cancel),
        compensation=None if policy.no_return else refund if refunds_later else compensation,
    )  # fmt: skip
    return Handlers.of([step])


def prepared(requests: Sequence[Wanted | CancelShipment], _tx: Connection) -> Mapping[str, str]:
    return {request.saga_id: f"pay {request.saga_id}" for request in requests}


@dataclass(kw_only=True)
class Service:
    """One process of a service with an awaited step, its clock, and what it has published."""

    engine: Engine
    policy: AwaitedPolicy = PAYOUT
    refunds_later: bool = False
    bank: Bank = field(default_factory=Bank)
    now: datetime = AT
    calls: list[AwaitedPendingCall] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    saga_id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        self.handlers = handlers(self.bank, self.policy, refunds_later=self.refunds_later)

    def deliver(self, message: Message) -> list[Message]:
        """Handle a message, and return what is published because of it."""
        topic = COMMANDS if isinstance(message, FenceSaga | RedriveStep | CancelShipment) else INPUT
        raw = RawMessage(
            topic=topic, partition=1, key=self.saga_id.encode(), value=CODEC.encode(topic, message), headers=()
        )
        delivery = Delivery(message=message, raw=raw)
        return self.work(Work(deliveries=[(name, delivery) for name in self.handlers.handling(message)]))

    def trigger(self, **given: object) -> list[Message]:
        return self.deliver(a(LoyaltyPointsBurned, saga_id=self.saga_id, **given))

    def fence(self) -> list[Message]:
        return self.deliver(a(FenceSaga, saga_id=self.saga_id, steps=[PAY]))

    def call(self, *answers: object) -> list[Message]:
        """Make the planned call, which the provider answers so, and settle what comes of it."""
        (pending,) = self.calls
        self.calls.clear()
        self.bank.answers = list(answers)
        try:
            result = AwaitedResult(call=pending, answer=_call(pending))
        except Unavailable as failure:
            result = AwaitedResult(call=pending, failure=failure)
        return self.work(Work(awaited_results=[result]))

    def acknowledge(self) -> None:
        """Let Kafka have everything, and empty the outbox as the relay does."""
        with self.engine.begin() as tx:
            tx.execute(text("DELETE FROM outbox WHERE aggregateid = :id"), {"id": self.saga_id})

    def lose(self) -> None:
        """Crash: what was planned and not made is gone."""
        self.calls.clear()

    def wait(self, seconds: float) -> list[Message]:
        """Let time pass, and do what is due by then."""
        self.now += timedelta(seconds=seconds)
        with self.engine.begin() as tx:
            due = attempt_rows.due(tx, [1], now=self.now, limit=10)
            rows = deferred.due(tx, [1], now=self.now, limit=10)
        deliveries = [(row.handler, Delivery.of(row, CODEC.decode(row.raw.value))) for row in rows]
        return self.work(Work(awaited_due=[key for key in due if key[0] == self.saga_id], due=deliveries))

    def prove(self, outcome: Outcome, number: int = 1, *, step: str = PAY, **more: str) -> list[Message]:
        """Store what a callback proves, and let the owner of the partition decide about it."""
        key = f"{self.saga_id}:{step}" if number == 1 else f"{self.saga_id}:{step}:{number}"
        claim = Claim(outcome=outcome, key=key, **more)
        body = Received(
            id=new_id(),
            provider="bank",
            source=Source.CALLBACK,
            received_at=self.now,
            headers=[],
            body=b"",
            claim=claim,
        )
        with self.engine.begin() as tx:
            evidence.store(tx, [body])
        return self.decide()

    def decide(self) -> list[Message]:
        return self.work(Work(evidence=self.waiting())) + self.wait(0)

    def waiting(self) -> list[StoredEvidence]:
        """Return the evidence that nothing was decided about, and that is due."""
        with self.engine.begin() as tx:
            found = evidence.waiting(tx, [1], now=self.now, limit=100)
        return [each for each in found if each.saga_id == self.saga_id]

    def work(self, work: Work, *, fails: Exception | None = None) -> list[Message]:
        with self.engine.begin() as tx:
            batch = Batch(
                tx, "toy", self.handlers, CODEC, work.saga_ids, now=self.now, new_id=new_id, jitter=random.Random(0)
            )
            if fails is None:
                batch.handle(work)
            else:
                batch.record_failure(work, fails)
            out = batch.finish()
        return self._after(out)

    def _after(self, out: Outgoing) -> list[Message]:
        self.calls += out.awaited_calls
        self.letters += [row.topic for row in out.rows if row.topic.endswith(".dlq")]
        found = [CODEC.decode(row.payload) for row in out.rows if not row.topic.endswith(".dlq")]
        self.published += found
        return found

    @property
    def state(self) -> str:
        """The state of the step's effect, with ``closing`` where its saga is fenced."""
        with self.engine.connect() as connection:
            query = text("SELECT state, closing FROM effects WHERE saga_id = :id AND step = :step")
            state, closing = connection.execute(query, {"id": self.saga_id, "step": PAY}).one()
        return f"{state} closing" if closing else str(state)

    @property
    def marks(self) -> tuple[int, int]:
        """How often the step was recorded as done, and undone."""
        with self.engine.connect() as connection:
            query = text("SELECT done, undone FROM marks WHERE saga_id = :id")
            row = connection.execute(query, {"id": self.saga_id}).one_or_none()
        return (0, 0) if row is None else (row.done, row.undone)

    @property
    def fates(self) -> list[str]:
        with self.engine.connect() as connection:
            query = text("SELECT fate FROM evidence WHERE saga_id = :id ORDER BY received_at, id")
            return list(connection.execute(query, {"id": self.saga_id}).scalars())


def _call(pending: AwaitedPendingCall) -> Any:
    call = pending.step.call
    match pending.act:
        case AwaitedAct.SEND:
            return call.send(pending.request, pending.key)
        case AwaitedAct.QUERY:
            return call.query(pending.key, pending.provider_id)
        case AwaitedAct.CANCEL:
            assert call.cancel is not None
            return call.cancel(pending.key, pending.provider_id)


def types(messages: Sequence[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


def states(messages: Sequence[Message]) -> list[str]:
    """Return the state of the step in each reply to a fence."""
    return [each.steps[0].state for each in messages if isinstance(each, SagaFenced)]


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        service_metadata(has_awaited_steps=True).create_all(engine)
        with engine.begin() as tx:
            MARKS.create(tx)
        yield engine


@pytest.fixture
def service(engine: Engine) -> Service:
    return Service(engine=engine)


@pytest.fixture
def card(engine: Engine) -> Service:
    return Service(engine=engine, policy=CARD)


def test_the_call_begins_only_after_kafka_has_its_attempt_and_evidence_settles_it_once(service: Service) -> None:
    (begun,) = service.trigger()
    assert isinstance(begun, StepAwaited)
    assert (begun.step, begun.attempt, begun.key) == (PAY, 1, f"{service.saga_id}:{PAY}")
    assert [(call.act, call.after) for call in service.calls] == [(AwaitedAct.SEND, begun.message_id)]
    assert service.trigger() == [], "a redelivered trigger changes nothing"
    assert service.call(Accepted(provider_id="bank:1")) == []
    assert (service.state, service.marks) == ("SENT", (0, 0)), "an acknowledgement is no outcome"
    service.now += timedelta(days=3)
    (done,) = service.prove(Outcome.SUCCEEDED, reference="receipt 8")
    assert isinstance(done, ShipmentBooked)
    assert done.tracking_number == "receipt 8"
    assert (service.state, service.marks) == ("DONE", (1, 0))
    assert service.prove(Outcome.SUCCEEDED) == []
    assert service.wait(100_000) == []
    assert (service.calls, service.bank.sent, service.marks) == ([], [f"{service.saga_id}:{PAY}"], (1, 0))
    assert service.fates == [Fate.SETTLED, Fate.REPEATED]


def test_without_an_answer_it_is_queried_and_the_same_key_is_sent_again_where_it_is_not_found(service: Service) -> None:
    service.trigger()
    service.call(Unavailable("the answer was lost"))
    assert service.state == "STARTED"
    assert service.wait(1) == []
    assert service.calls == [], "nothing is done before the call is over"
    service.wait(10)
    assert (service.state, [call.act for call in service.calls]) == ("UNSURE", [AwaitedAct.QUERY])
    service.call(NotFound())
    assert (service.state, service.calls) == ("UNSURE", [])
    service.acknowledge()
    service.wait(60)
    assert [(call.act, call.after) for call in service.calls] == [(AwaitedAct.SEND, None)]
    service.call(Unavailable("the answer was lost"))
    service.wait(10)
    (done,) = service.call(Proven(outcome=Outcome.SUCCEEDED))
    assert types([done]) == ["ShipmentBooked"]
    assert set(service.bank.sent) == {f"{service.saga_id}:{PAY}"}
    assert (len(service.bank.sent), service.marks) == (2, (1, 0))


def test_while_kafka_may_lack_the_attempt_no_repeated_call_begins_either(service: Service) -> None:
    (begun,) = service.trigger()
    service.call(TooLate("Kafka had not acknowledged its attempt in time"))
    service.wait(10)
    assert [(call.act, call.after) for call in service.calls] == [(AwaitedAct.SEND, begun.message_id)]


def test_a_call_that_a_crash_prevented_is_made_under_the_same_key(service: Service) -> None:
    service.trigger()
    service.lose()
    service.wait(10)
    service.call(NotFound())
    service.wait(60)
    service.call(Accepted())
    assert (service.state, service.bank.sent) == ("SENT", [f"{service.saga_id}:{PAY}"])


def test_a_call_that_was_not_made_in_time_is_made_later_and_counts_as_no_send(engine: Engine) -> None:
    service = Service(engine=engine, policy=replace(PAYOUT, sends_max=1))
    service.trigger()
    service.call(TooLate("Kafka acknowledged too late"))
    service.wait(10)
    assert [call.act for call in service.calls] == [AwaitedAct.SEND]
    service.call(Accepted())
    assert (service.state, len(service.bank.sent)) == ("SENT", 2)


def test_a_refusal_rejects_the_step(service: Service) -> None:
    service.trigger()
    (rejected,) = service.call(Proven(outcome=Outcome.REFUSED))
    assert isinstance(rejected, ShipmentRejected)
    assert (service.state, service.marks) == ("REJECTED", (0, 0))


def test_a_new_attempt_has_a_new_key_and_follows_only_the_proof_that_the_one_before_failed(engine: Engine) -> None:
    service = Service(engine=engine, policy=replace(PAYOUT, attempts_max=2))
    service.trigger()
    service.call(Accepted())
    service.wait(100)
    service.call(Accepted())
    assert set(service.bank.sent) == {f"{service.saga_id}:{PAY}"}, "no time leads to another attempt"
    assert service.prove(Outcome.FAILED) == []
    assert (service.state, service.calls) == ("PAUSED", [])
    (begun,) = service.wait(4_000)
    assert isinstance(begun, StepAwaited)
    assert (begun.attempt, begun.key) == (2, f"{service.saga_id}:{PAY}:2")
    assert [call.after for call in service.calls] == [begun.message_id]
    service.call(Accepted())
    assert types(service.prove(Outcome.FAILED, 2)) == ["ShipmentRejected"]


def test_a_fence_replies_at_once_that_the_step_is_in_doubt_and_once_more_when_it_is_paid(service: Service) -> None:
    service.trigger()
    service.call(Accepted())
    assert states(service.fence()) == ["IN_DOUBT"]
    assert service.state == "SENT closing"
    assert states(service.wait(86_400)) == [], "no time settles it"
    service.lose()
    settled = service.prove(Outcome.SUCCEEDED)
    assert types(settled) == ["ShipmentBooked", "SagaFenced"], "nothing undoes it, so its saga goes forward"
    assert states(settled) == ["DONE"]


def test_a_fence_that_meets_a_call_waits_for_its_end_and_then_replies_that_it_is_in_doubt(service: Service) -> None:
    service.trigger()
    assert service.fence() == []
    assert service.state == "STARTED closing"
    service.lose()
    assert states(service.wait(10)) + states(service.wait(0)) == ["IN_DOUBT"]
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY], "a closing step sends nothing"
    service.call(NotFound())
    service.wait(60)
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY]


def test_a_step_that_can_be_undone_is_cancelled_and_its_late_success_is_published_by_no_event(card: Service) -> None:
    card.trigger()
    card.call(Accepted())
    assert states(card.fence()) == ["IN_DOUBT"]
    assert [call.act for call in card.calls] == [AwaitedAct.CANCEL]
    card.call(Proven(outcome=Outcome.CANCEL_REFUSED))
    settled = card.prove(Outcome.SUCCEEDED)
    assert (types(settled), states(settled)) == (["SagaFenced"], ["DONE"])
    (undone,) = card.deliver(a(CancelShipment, saga_id=card.saga_id, step=PAY))
    assert isinstance(undone, ShipmentCancelled)
    assert (undone.undone, card.state, card.marks) == (True, "UNDONE closing", (1, 1))


def test_a_cancel_that_voids_it_fences_the_step(card: Service) -> None:
    card.trigger()
    card.call(Accepted())
    card.fence()
    settled = card.call(Proven(outcome=Outcome.VOIDED)) + card.wait(0)
    assert states(settled) == ["FENCED"]
    assert (card.state, card.marks) == ("FENCED closing", (0, 0))


def test_a_compensation_waits_for_the_outcome_of_a_step_that_is_in_doubt(card: Service) -> None:
    card.trigger()
    card.call(Accepted())
    assert card.deliver(a(CancelShipment, saga_id=card.saga_id, step=PAY)) == []
    card.lose()
    assert card.wait(100) == []
    card.calls.clear()
    settled = card.prove(Outcome.REFUSED)
    assert types(settled) == ["ShipmentCancelled"]
    assert (card.state, card.marks) == ("REJECTED closing", (0, 0))


def paid(engine: Engine) -> Service:
    """Return a service whose step is paid, and whose refund is proven later."""
    service = Service(engine=engine, policy=AwaitedPolicy(no_return=False), refunds_later=True)
    service.trigger()
    assert types(service.call(Proven(outcome=Outcome.SUCCEEDED))) == ["ShipmentBooked"]
    service.bank.sent.clear()
    return service


def refund(service: Service, attempt: int = 1) -> list[Message]:
    return service.deliver(a(CancelShipment, saga_id=service.saga_id, step=PAY, attempt=attempt))


def test_a_refund_is_replied_to_on_its_proof_and_not_on_its_acknowledgement(engine: Engine) -> None:
    service = paid(engine)
    (begun,) = refund(service)
    assert isinstance(begun, StepAwaited)
    assert (begun.step, begun.undo, begun.attempt, begun.key) == (PAY, True, 1, f"{service.saga_id}:{PAY}:undo")
    assert [call.after for call in service.calls] == [begun.message_id]
    assert service.call(Accepted()) == []
    assert refund(service, 2) == [], "the command that is sent again begins nothing"
    assert service.wait(100) == []
    service.lose()
    assert (service.state, service.marks) == ("DONE", (1, 0))
    replies = service.prove(Outcome.SUCCEEDED, step=f"{PAY}:undo")
    assert types(replies) == ["ShipmentCancelled", "ShipmentCancelled"], "each command has its reply"
    assert [each.undone for each in replies if isinstance(each, ShipmentCancelled)] == [True, False]
    assert (service.state, service.marks) == ("UNDONE", (1, 1))
    assert service.bank.sent == [f"{service.saga_id}:{PAY}:undo"]


def test_a_refund_without_an_answer_is_sent_again_under_its_one_key(engine: Engine) -> None:
    service = paid(engine)
    refund(service)
    service.acknowledge()
    service.call(Unavailable("the answer was lost"))
    service.wait(10)
    service.call(NotFound())
    service.wait(60)
    service.call(Unavailable("the answer was lost"))
    service.wait(10)
    settled = service.call(Proven(outcome=Outcome.SUCCEEDED)) + service.wait(0)
    assert types(settled) == ["ShipmentCancelled"]
    assert service.bank.sent == [f"{service.saga_id}:{PAY}:undo"] * 2


def test_a_refund_that_fails_for_good_is_a_dead_command(engine: Engine) -> None:
    service = paid(engine)
    refund(service)
    assert service.call(Proven(outcome=Outcome.REFUSED)) + service.wait(0) == []
    assert service.letters == [f"{PAY}.dlq"]
    assert (service.state, service.marks) == ("DONE", (1, 0))


def test_a_refund_of_what_never_ran_undoes_nothing(engine: Engine) -> None:
    service = Service(engine=engine, policy=AwaitedPolicy(no_return=False), refunds_later=True)
    (reply,) = refund(service)
    assert isinstance(reply, ShipmentCancelled)
    assert (reply.undone, service.state, service.calls) == (False, "FENCED closing", [])


def test_at_the_end_of_a_refunds_ladder_a_person_is_called_and_a_new_command_begins_it_anew(engine: Engine) -> None:
    service = paid(engine)
    refund(service)
    service.call(Accepted())
    while not service.letters:
        service.wait(4_000)
        service.lose()
    assert service.letters == [f"{PAY}.dlq"]
    refund(service, 2)
    service.wait(0)
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY]
    service.lose()
    assert types(service.prove(Outcome.SUCCEEDED, step=f"{PAY}:undo")) == ["ShipmentCancelled"] * 2


def test_a_payment_after_its_refusal_turns_no_row_and_is_published_once(service: Service) -> None:
    service.trigger()
    service.call(Proven(outcome=Outcome.REFUSED))
    (contradicted,) = service.prove(Outcome.SUCCEEDED, reference="row 812")
    assert isinstance(contradicted, StepContradicted)
    assert (contradicted.recorded, contradicted.proven) == ("FAILED", "SUCCEEDED")
    assert (contradicted.source, contradicted.reference, contradicted.attempt) == ("callback", "row 812", 1)
    assert service.prove(Outcome.SUCCEEDED) == []
    assert (service.state, service.marks) == ("REJECTED", (0, 0))
    assert service.fates == [Fate.CONTRADICTED, Fate.REPEATED]


def test_at_the_end_of_the_ladder_a_person_is_called_and_evidence_still_settles(service: Service) -> None:
    service.trigger()
    service.call(Accepted())
    while not service.letters:
        service.wait(4_000)
        service.lose()
    assert service.letters == [f"{PAY}.dlq"]
    assert service.wait(100_000) == []
    assert service.calls == [], "it is queried no more"
    (redriven,) = service.deliver(a(RedriveStep, saga_id=service.saga_id, step=PAY, attempt=1))
    assert isinstance(redriven, StepRedriven)
    assert redriven.outcome == "RESUMED"
    service.wait(0)
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY]
    service.lose()
    assert types(service.prove(Outcome.SUCCEEDED)) == ["ShipmentBooked"]


def test_evidence_at_which_a_handler_fails_is_kept_and_decided_about_later(service: Service) -> None:
    service.trigger(customer_id="poison")
    service.call(Accepted())
    with pytest.raises(RuntimeError, match="a handler of ours fails"):
        service.prove(Outcome.SUCCEEDED)
    assert service.work(Work(evidence=service.waiting()), fails=RuntimeError("a handler of ours fails")) == []
    assert service.decide() == [], "it waits"
    service.now += timedelta(minutes=2)
    with pytest.raises(RuntimeError, match="a handler of ours fails"):
        service.decide()
    assert (service.state, service.fates) == ("SENT", [None])
