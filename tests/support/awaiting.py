"""One process of a service with an awaited step, on real PostgreSQL: its provider, its clock, what it publishes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from chassis.http.downstream import Unavailable
from chassis.saga import attempt_rows, deferred, evidence
from chassis.saga.answers import Settlement
from chassis.saga.attempts import AwaitedPolicy, Outcome
from chassis.saga.batch import Batch
from chassis.saga.deferred import RawMessage
from chassis.saga.evidence import Claim, Received, Source, StoredEvidence
from chassis.saga.handlers import Handlers
from chassis.saga.ladder import Ladder
from chassis.saga.routing import Work
from chassis.saga.steps import AwaitedCall, AwaitedCompensation, AwaitedStep, Compensation
from chassis.saga.triggers import SagaTrigger
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, AwaitedResult, Delivery, Outgoing
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Envelope, Message
from messages.loyalty import LoyaltyPointsBurned
from messages.saga import FenceSaga, RedriveStep, SagaFenced
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from proof.schemas import LocalRegistry
from support.builders import a
from support.toy import COMMANDS, INPUT, Marks, _load, _save, _undo, _work
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
        return ShipmentBooked(
            **envelope, customer_id="c", currency="USD", payable_minor=1, points_minor=0, tracking_number=number
        )
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
    read: list[tuple[RawMessage, Message]] = field(default_factory=list)
    saga_id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        self.handlers = handlers(self.bank, self.policy, refunds_later=self.refunds_later)

    def deliver(self, message: Message) -> list[Message]:
        """Handle a message, and return what is published because of it."""
        topic = COMMANDS if isinstance(message, FenceSaga | RedriveStep | CancelShipment) else INPUT
        raw = RawMessage(
            topic=topic, partition=1, key=self.saga_id.encode(), value=CODEC.encode(topic, message), headers=()
        )
        self.read.append((raw, message))
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
        deliveries = [
            (row.handler, Delivery.of(row, CODEC.decode(row.raw.value))) for row in rows if row.saga_id == self.saga_id
        ]
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
