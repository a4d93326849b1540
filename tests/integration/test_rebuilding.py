"""A rebuild on real PostgreSQL sends what was decided and is on no topic, and nothing that was sent before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from chassis.postgres import migrations
from chassis.saga.deferred import RawMessage
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.saga import RedriveStep
from proof.schemas import LocalRegistry
from saga_tracker.definitions import DEFINITIONS, newest
from saga_tracker.ingest import decisions
from saga_tracker.ingest.decisions import AppliedAct
from saga_tracker.ingest.outgoing import redrive_of_unknown_step
from saga_tracker.ingest.rebuilding import Rebuild, Rebuilt
from saga_tracker.ingest.records import Record
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.model.facts import NOTHING
from saga_tracker.model.saga import DECISIONS_TOPIC
from saga_tracker.store import consumed_offsets
from saga_tracker.store.plans import ActKind
from saga_tracker.store.sagas import SagaRow
from stack import Stack
from support.postgres import scratch_database

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
CODEC = Codec(LocalRegistry())


@pytest.fixture
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade("saga_tracker", engine)
        yield engine


def record(topic: str, message: Message) -> Record:
    raw = RawMessage(
        topic=topic, partition=0, offset=0, key=message.saga_id.encode(), value=CODEC.encode(topic, message), headers=()
    )
    return Record(raw=raw, offset=0, timestamp_ms=int(NOW.timestamp() * 1000))


@pytest.mark.parametrize(("is_sent", "sent_again"), [(False, 1), (True, 0)])
def test_a_redrive_of_no_known_step_is_sent_once(engine: Engine, is_sent: bool, sent_again: int) -> None:
    row = SagaRow(
        saga_id=new_id(), saga_type="order", saga_version=newest("order").version, partition=0, progress=NOTHING,
        started_at=NOW,
    )  # fmt: skip
    act = AppliedAct(
        kind=ActKind.REDRIVE, plan_id=new_id(), actor="operator-1", reason="fixed", runs="RedriveStep checkout",
        fact=None, redrives={"checkout": 1},
    )  # fmt: skip
    decision = decisions.operator_acted(TrackedSaga(row=row, definition=newest("order")), act, now=NOW)
    command = redrive_of_unknown_step(row, "checkout", 1, decision, NOW)
    records = [record(DECISIONS_TOPIC, decision), *([record(command.topic, command.message)] if is_sent else [])]
    rebuild = Rebuild(DEFINITIONS, CODEC)
    with engine.begin() as tx:
        consumed_offsets.begin(tx, {each.topic_partition: 0 for each in records})
        rebuild.record(tx, records, now=NOW)
        assert rebuild.conclude(tx, Rebuilt(), after="", limit=10, now=NOW) == row.saga_id
        sent = [CODEC.decode(bytes(each)) for each in tx.execute(text("SELECT payload FROM outbox")).scalars()]
        (entry,) = tx.execute(text("SELECT message_id, causation_id FROM timeline WHERE kind = 'command'")).all()
    assert sent == [command.message] * sent_again
    assert all(isinstance(each, RedriveStep) for each in sent)
    assert entry == (command.message.message_id, decision.message_id)
