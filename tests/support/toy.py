"""A service of three steps to try the chassis with: two touch only its database, one calls a provider outside.

Every effect leaves a mark that counts how often it was done and undone, so that a second one shows. As a process
(``python -m support.toy``) it takes its provider to be always well; called ``toy-listener`` it has one reaction alone.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka.schema_registry import SchemaRegistryClient
from sqlalchemy import Column, Connection, Integer, Table, Text, text

from chassis.postgres import database
from chassis.process.intake import consumer
from chassis.process.membership import Membership
from chassis.process.worker import Worker
from chassis.saga.handlers import Handlers
from chassis.saga.publisher import Relay, producer
from chassis.saga.retry import RetryPolicy
from chassis.saga.schema import service_metadata
from chassis.saga.steps import Call, Compensation, ExternalCompensation, ExternalStep, Handler, Reaction, Step
from chassis.saga.triggers import SagaTrigger, StepRequest
from chassis.settings import Settings
from chassis.telemetry import logs
from chassis.wire import kafka
from chassis.wire.codec import Codec
from chassis.wire.kafka import KafkaLogin
from chassis.wire.registry import RemoteRegistry, Subject
from messages.contract import Envelope, Message
from messages.inventory import InventoryRejected, InventoryReleased, InventoryReserved, ReleaseInventory
from messages.loyalty import LoyaltyPointsBurned, LoyaltyPointsRestored, RestoreLoyaltyPoints
from messages.payment import PaymentAuthorized
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepRedriven
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from stack.registering import register

NAME = "toy"
PICK, PACK, SEND = "pick", "pack", "send"
INPUT, COMMANDS, EVENTS = "toy.input", "toy.commands", "toy.events"
TOPICS = (INPUT, COMMANDS, EVENTS, "toy.dlq", "toy-listener.dlq", "pick.dlq", "pack.dlq", "send.dlq")
EMITTED = (
    InventoryReserved, InventoryRejected, InventoryReleased, LoyaltyPointsBurned, LoyaltyPointsRestored,
    ShipmentBooked, ShipmentRejected, ShipmentCancelled, SagaFenced, StepRedriven,
)  # fmt: skip
SENT = (PaymentAuthorized, InventoryReserved, LoyaltyPointsBurned)
COMMANDED = (ReleaseInventory, RestoreLoyaltyPoints, CancelShipment)
REFUSED_POINTS = 13
POISON = "poison"
LISTENER, LISTEN = "toy-listener", "listen"
QUICK = RetryPolicy(initial_interval_s=0.2, backoff_coefficient=1.0, attempts_max=3)

METADATA = service_metadata()
MARKS = Table(
    "marks",
    METADATA,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("done", Integer, nullable=False),
    Column("undone", Integer, nullable=False),
)
MARK = text("""
    INSERT INTO marks (saga_id, step, done, undone) VALUES (:saga_id, :step, :done, :undone)
    ON CONFLICT (saga_id, step) DO UPDATE
    SET done = marks.done + excluded.done, undone = marks.undone + excluded.undone
""")


class Poisoned(Exception):
    """The handler fails on this message, always."""


@dataclass(slots=True)
class Marks:
    """What a batch did and undid."""

    step: str
    done: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)


class Provider(Protocol):
    """The provider that the step ``send`` calls."""

    def send(self, request: str, key: str) -> str: ...

    def find(self, key: str) -> str | None: ...

    def recall(self, request: str, key: str) -> str: ...


class WellProvider:
    """A provider that always says yes and keeps nothing."""

    def send(self, request: str, key: str) -> str:
        return "sent"

    def find(self, key: str) -> str | None:
        return None

    def recall(self, request: str, key: str) -> str:
        return "recalled"


def _load(step: str) -> Callable[[Sequence[Any], Connection], Marks]:
    return lambda _asked, _tx: Marks(step)


def _save(marks: Marks, tx: Connection) -> None:
    rows = [(saga_id, 1, 0) for saga_id in marks.done] + [(saga_id, 0, 1) for saga_id in marks.undone]
    for saga_id, done, undone in rows:
        tx.execute(MARK, {"saga_id": saga_id, "step": marks.step, "done": done, "undone": undone})


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(StepRequest):
    """What the toy is to do; some work is poisoned, and some it refuses."""

    customer_id: str = ""
    is_refused: bool = False


def _work(event: PaymentAuthorized | InventoryReserved | LoyaltyPointsBurned, step: str) -> Work:
    return Work(
        saga_id=event.saga_id, step=step, customer_id=event.customer_id,
        is_refused=event.points_to_burn == REFUSED_POINTS,
    )  # fmt: skip


def _pick(work: Work, marks: Marks, _envelope: Envelope) -> bool:
    if work.customer_id.startswith(POISON):
        raise Poisoned(work.customer_id)
    if work.is_refused:
        return False
    marks.done.append(work.saga_id)
    return True


def _picked(event: PaymentAuthorized, is_picked: bool, envelope: Envelope) -> InventoryReserved | InventoryRejected:
    if is_picked:
        return InventoryReserved(**envelope, **_carried(event))
    return InventoryRejected(**envelope, reason="no", detail="no", sku="sku", requested=1, available=0)


def _pack(work: Work, marks: Marks, _envelope: Envelope) -> None:
    marks.done.append(work.saga_id)


def _packed(event: InventoryReserved, _outcome: None, envelope: Envelope) -> LoyaltyPointsBurned:
    return LoyaltyPointsBurned(**envelope, **_carried(event))


def _carried(event: PaymentAuthorized | InventoryReserved) -> dict[str, Any]:
    names = ("customer_id", "currency", "lines", "points_to_burn", "payable_minor", "ship_to")
    return {name: getattr(event, name) for name in names}


def _send(work: Work, outcome: str, marks: Marks) -> None:
    if outcome == "sent":
        marks.done.append(work.saga_id)


def _sent(_event: LoyaltyPointsBurned, outcome: str, envelope: Envelope) -> ShipmentBooked | ShipmentRejected:
    if outcome != "sent":
        return ShipmentRejected(**envelope, reason=outcome, detail=outcome)
    return ShipmentBooked(
        **envelope, customer_id="c", currency="USD", payable_minor=1, points_minor=0, tracking_number="t"
    )


def _undo(reply: type[Message], **more: object) -> Callable[[Message, bool, Marks, Envelope], Message]:
    def decide(command: Any, undo: bool, marks: Marks, envelope: Envelope) -> Message:
        if undo:
            marks.undone.append(command.saga_id)
        return reply.from_record({**envelope, "step": command.step, "undone": undo, **more})

    return decide


def _recalled(command: CancelShipment, outcome: str | None, marks: Marks, envelope: Envelope) -> ShipmentCancelled:
    if outcome is not None:
        marks.undone.append(command.saga_id)
    return ShipmentCancelled(**envelope, step=command.step, undone=outcome is not None)


def _requests(requests: Sequence[Work | CancelShipment], _tx: Connection) -> Mapping[str, str]:
    for each in requests:
        if isinstance(each, Work) and each.customer_id.startswith(POISON):
            raise Poisoned(each.saga_id)
    return {each.saga_id: each.saga_id for each in requests}


SAGA: dict[str, Any] = {"saga": "order", "versions": (1,)}
TO_PICK = SagaTrigger(
    **SAGA, on=PaymentAuthorized, read=_work, publish=_picked, succeeds_with=InventoryReserved,
    rejected_with=InventoryRejected,
)  # fmt: skip
TO_PACK = SagaTrigger(
    **SAGA, on=InventoryReserved, read=_work, publish=_packed, succeeds_with=LoyaltyPointsBurned
)  # fmt: skip
TO_SEND = SagaTrigger(
    **SAGA, on=LoyaltyPointsBurned, read=_work, publish=_sent, succeeds_with=ShipmentBooked,
    rejected_with=ShipmentRejected,
)  # fmt: skip


def handlers(provider: Provider) -> tuple[Handler, ...]:
    """Return the toy's handlers, which call this provider."""
    return (
        Step(
            name=PICK, triggers=(TO_PICK,), load=_load(PICK), decide=_pick, save=_save, retry=QUICK,
            compensation=Compensation(
                on=ReleaseInventory, undoes=(PICK,), load=_load(PICK), decide=_undo(InventoryReleased), save=_save,
                replies=(InventoryReleased,), retry=QUICK,
            ),
        ),
        Step(
            name=PACK, triggers=(TO_PACK,), load=_load(PACK), decide=_pack, save=_save, retry=QUICK,
            compensation=Compensation(
                on=RestoreLoyaltyPoints, undoes=(PACK,), load=_load(PACK),
                decide=_undo(LoyaltyPointsRestored, points=1), save=_save, replies=(LoyaltyPointsRestored,),
                retry=QUICK,
            ),
        ),
        ExternalStep(
            name=SEND, triggers=(TO_SEND,), load=_load(SEND), record=_send, save=_save, retry=QUICK,
            call=Call(prepare=_requests, run=provider.send, find=provider.find),
            compensation=ExternalCompensation(
                on=CancelShipment, undoes=(SEND,), load=_load(SEND), decide=_recalled, save=_save,
                call=Call(prepare=_requests, run=provider.recall, find=provider.find),
                replies=(ShipmentCancelled,), retry=QUICK,
            ),
        ),
    )  # fmt: skip


def _listen(events: Sequence[ShipmentBooked], tx: Connection) -> None:
    for event in events:
        deferrals = tx.execute(text("SELECT 1 FROM deferred WHERE saga_id = :id"), {"id": event.saga_id}).first()
        if event.customer_id.startswith(POISON) and deferrals is None:
            raise Poisoned(f"{event.saga_id} fails when it comes first")
    _save(Marks(LISTEN, done=[event.saga_id for event in events]), tx)


LISTENING: tuple[Handler, ...] = (
    Reaction(on=ShipmentBooked, sagas=frozenset({("order", 1)}), apply=_listen, retry=QUICK),
)


def register_schemas(registry: dict[str, str]) -> None:
    """Register what the toy emits, and what tests send to it."""
    with SchemaRegistryClient(registry) as client:
        for topic, types in ((EVENTS, EMITTED), (INPUT, SENT), (COMMANDS, (*COMMANDED, FenceSaga, RedriveStep))):
            for message_type in types:
                register(client, Subject(topic=topic, message_type=message_type))


def main() -> int:
    """Run the toy as a process, with the settings that every service has."""
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    worker = Worker(
        settings.service,
        Handlers.of(LISTENING if settings.service == LISTENER else handlers(WellProvider())),
        engine=database.create(settings.database_url, settings.database_password_file, application=NAME),
        codec=Codec(RemoteRegistry(settings.registry_url)),
        consumer=consumer(KafkaLogin.of(settings), settings.service, settings.service),
        relay=Relay(producer(KafkaLogin.of(settings), client_id=settings.service)),
        membership=Membership(lambda: kafka.answers(KafkaLogin.of(settings))),
    )
    signal.signal(signal.SIGTERM, lambda _number, _frame: worker.stop())
    worker.run([INPUT] if settings.service == LISTENER else [INPUT, COMMANDS])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
