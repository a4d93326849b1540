"""A service with one step whose outcome comes later, as a process (``python -m support.toy_payer``).

Its bank is a table of its own database, so that a test can see what was sent, and say how it ended.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka.schema_registry import SchemaRegistryClient
from sqlalchemy import Column, Connection, Engine, Integer, Table, Text, text

from chassis.http.downstream import Unavailable
from chassis.http.signatures import BadSignature
from chassis.postgres import database
from chassis.process.intake import consumer
from chassis.process.membership import Membership
from chassis.process.worker import Worker
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer, Settlement
from chassis.saga.attempts import AwaitedPolicy, Outcome
from chassis.saga.evidence import Claim
from chassis.saga.handlers import Handlers
from chassis.saga.ladder import Ladder
from chassis.saga.publisher import Relay, producer
from chassis.saga.schema import service_metadata
from chassis.saga.steps import AwaitedCall, AwaitedStep, Handler
from chassis.saga.triggers import SagaTrigger
from chassis.settings import Settings
from chassis.telemetry import logs
from chassis.wire import kafka
from chassis.wire.codec import Codec
from chassis.wire.kafka import KafkaLogin
from chassis.wire.registry import RemoteRegistry, Subject
from messages.contract import Envelope, Message
from messages.loyalty import LoyaltyPointsBurned
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepAwaited, StepContradicted, StepRedriven
from messages.shipping import ShipmentBooked, ShipmentRejected
from stack.registering import register
from support.toy import Marks, Work, _load, _save, _work

NAME, PAY = "toy-payer", "pay"
INPUT, COMMANDS, EVENTS = f"{NAME}.input", f"{NAME}.commands", f"{NAME}.events"
TOPICS = (INPUT, COMMANDS, EVENTS, f"{NAME}.dlq", f"{PAY}.dlq")
EMITTED = (ShipmentBooked, ShipmentRejected, SagaFenced, StepAwaited, StepContradicted, StepRedriven)
LOST = "lost"
"""A customer whose answers are all lost; what was sent to the bank arrives."""

METADATA = service_metadata(has_awaited_steps=True)
MARKS = Table(
    "marks",
    METADATA,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("done", Integer, nullable=False),
    Column("undone", Integer, nullable=False),
)
BANK = Table(
    "bank",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("sends", Integer, nullable=False),
    Column("outcome", Text),
)
TAKE = text("INSERT INTO bank VALUES (:key, 1) ON CONFLICT (key) DO UPDATE SET sends = bank.sends + 1")
FIND = text("SELECT outcome FROM bank WHERE key = :key")


@dataclass(frozen=True)
class Bank:
    """A bank that takes a payment once for each key, and knows its outcome when a test has said it."""

    engine: Engine

    def send(self, request: str, key: str) -> SendAnswer:
        with self.engine.begin() as tx:
            tx.execute(TAKE, {"key": key})
        if request == LOST:
            raise Unavailable("the answer was lost")
        return Accepted(provider_id=f"bank:{key}")

    def query(self, key: str, provider_id: str | None) -> QueryAnswer:
        with self.engine.connect() as tx:
            row = tx.execute(FIND, {"key": key}).one_or_none()
        if row is None:
            return NotFound()
        return Accepted(provider_id=f"bank:{key}") if row.outcome is None else Proven(outcome=Outcome(row.outcome))


@dataclass(frozen=True)
class BankCallbacks:
    """The bank's callbacks, which tests store themselves; orphans among them are matched again."""

    provider: str = "bank"
    headers_kept: Sequence[str] = ()

    def authenticate(self, headers: Sequence[tuple[str, str]], body: bytes, now: datetime) -> None:
        raise BadSignature("No callback comes over HTTP here.")

    def read(self, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
        return None


def prepared(requests: Sequence[Work], _tx: Connection) -> Mapping[str, str]:
    return {request.saga_id: request.customer_id for request in requests}


def recorded(request: Work, settlement: Settlement, marks: Marks) -> None:
    if settlement.is_done:
        marks.done.append(request.saga_id)


def published(_event: LoyaltyPointsBurned, settlement: Settlement, envelope: Envelope) -> Message:
    if settlement.is_done:
        return ShipmentBooked(
            **envelope, customer_id="c", currency="USD", payable_minor=1, points_minor=0, tracking_number="t"
        )
    return ShipmentRejected(**envelope, reason=settlement.proof.outcome.value, detail="")


def handlers(bank: Bank) -> tuple[Handler, ...]:
    """Return the payer's handlers, which call this bank."""
    return (
        AwaitedStep(
            name=PAY,
            triggers=(
                SagaTrigger(
                    saga="order", versions=(1,), on=LoyaltyPointsBurned, read=_work, publish=published,
                    succeeds_with=ShipmentBooked, rejected_with=ShipmentRejected,
                ),
            ),
            policy=AwaitedPolicy(no_return=True), ladder=Ladder(waits_s=(0.5,), ends_after_s=3_600),
            call=AwaitedCall(prepare=prepared, send=bank.send, query=bank.query),
            load=_load(PAY), record=recorded, save=_save, compensation=None,
        ),
    )  # fmt: skip


def register_schemas(registry: dict[str, str]) -> None:
    """Register what the payer emits, and what tests send to it."""
    with SchemaRegistryClient(registry) as client:
        sent = ((EVENTS, EMITTED), (INPUT, (LoyaltyPointsBurned,)), (COMMANDS, (FenceSaga, RedriveStep)))
        for topic, types in sent:
            for message_type in types:
                register(client, Subject(topic=topic, message_type=message_type))


def main() -> int:
    """Run the payer as a process, with the settings that every service has."""
    settings = Settings()
    logs.configure(settings.service, settings.log_level)
    engine = database.create(settings.database_url, settings.database_password_file, application=NAME)
    worker = Worker(
        settings.service,
        Handlers.of(handlers(Bank(engine))),
        engine=engine,
        codec=Codec(RemoteRegistry(settings.registry_url)),
        consumer=consumer(KafkaLogin.of(settings), settings.service, settings.service),
        relay=Relay(producer(KafkaLogin.of(settings), client_id=settings.service)),
        membership=Membership(lambda: kafka.answers(KafkaLogin.of(settings))),
        adapters=(BankCallbacks(),),
    )
    signal.signal(signal.SIGTERM, lambda _number, _frame: worker.stop())
    worker.run([INPUT, COMMANDS])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
