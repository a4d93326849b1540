"""One process of a service with an awaited step, on real PostgreSQL: its provider, its clock, what it publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from chassis.saga.answers import Settlement
from chassis.saga.attempts import AwaitedPolicy, Outcome
from chassis.saga.handlers import Handlers
from chassis.saga.ladder import Ladder
from chassis.saga.steps import AwaitedCall, AwaitedCompensation, AwaitedStep, Compensation, StrayAttempt
from chassis.saga.triggers import SagaTrigger
from chassis.testing.provider import AnsweredProvider
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from messages.contract import Envelope, Message
from messages.loyalty import LoyaltyPointsBurned
from messages.saga import FenceSaga, SagaFenced
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from proof.schemas import LocalRegistry
from support.builders import a
from support.toy import Marks, _load, _save, _undo, _work
from support.toy import Work as Wanted

PAY = "pay"
CODEC = Codec(LocalRegistry())
AT = datetime(2026, 11, 29, 10, tzinfo=UTC)
LADDER = Ladder(waits_s=(30, 60, 3_600), ends_after_s=10_000)
PAYOUT = AwaitedPolicy(no_return=True, sends_max=3)
CARD = AwaitedPolicy(no_return=False, can_cancel=True)


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


def handlers(
    bank: AnsweredProvider, policy: AwaitedPolicy, *, refunds_later: bool = False, undoes_strays: bool = False
) -> Handlers:
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
        undo_stray=AwaitedCall(prepare=returned, send=bank.send, query=bank.query) if undoes_strays else None,
        compensation=None if policy.no_return else refund if refunds_later else compensation,
    )  # fmt: skip
    return Handlers.of([step])


def prepared(requests: Sequence[Wanted | CancelShipment], _tx: Connection) -> Mapping[str, str]:
    return {request.saga_id: f"pay {request.saga_id}" for request in requests}


def returned(strays: Sequence[StrayAttempt], _tx: Connection) -> Mapping[str, str]:
    return {stray.saga_id: f"return {stray.key} {stray.provider_id}" for stray in strays}


@dataclass(kw_only=True)
class Service(ServiceUnderTest):
    """One process of a service with an awaited step, whose provider answers what a test has laid out."""

    name: str = "toy"
    codec: Codec = CODEC
    handlers: Handlers = field(init=False)
    now: datetime = AT
    policy: AwaitedPolicy = PAYOUT
    refunds_later: bool = False
    undoes_strays: bool = False
    bank: AnsweredProvider = field(default_factory=AnsweredProvider)

    def __post_init__(self) -> None:
        self.handlers = handlers(
            self.bank, self.policy, refunds_later=self.refunds_later, undoes_strays=self.undoes_strays
        )

    def trigger(self, **given: object) -> list[Message]:
        return self.deliver(a(LoyaltyPointsBurned, saga_id=self.saga_id, **given))

    def fence(self) -> list[Message]:
        return self.deliver(a(FenceSaga, saga_id=self.saga_id, steps=[PAY]))

    def call(self, *answers: object) -> list[Message]:
        """Make the planned call, which the provider answers so, and settle what comes of it."""
        self.bank.answers = list(answers)
        return super().call()

    def prove(self, outcome: Outcome, number: int = 1, *, step: str = PAY, **more: str) -> list[Message]:
        return super().prove(outcome, number, step=step, **more)

    @property
    def state(self) -> str:
        return self.state_of(PAY)

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


def states(messages: Sequence[Message]) -> list[str]:
    """Return the state of the step in each reply to a fence."""
    return [each.steps[0].state for each in messages if isinstance(each, SagaFenced)]
