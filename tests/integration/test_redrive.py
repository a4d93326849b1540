"""Plans for parked sagas on real PostgreSQL: a plan runs as shown, once, and continues after a crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from chassis.postgres import migrations
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.saga import RedriveStep
from proof.schemas import LocalRegistry
from saga_tracker.definitions import DEFINITIONS, newest
from saga_tracker.http import previews
from saga_tracker.http.previews import InvalidSelection
from saga_tracker.ingest.operator_acts import BATCH_MAX, OperatorActs
from saga_tracker.ingest.outgoing import END
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.model.decision import Phase
from saga_tracker.model.facts import (
    NOTHING,
    Cancelled,
    CommandDead,
    Fact,
    Rejected,
    RetriesExhausted,
    Started,
    Succeeded,
    merge_all,
)
from saga_tracker.model.progress import decide
from saga_tracker.model.saga import DECISIONS_TOPIC
from saga_tracker.store import dead_letters, plans, sagas, selections
from saga_tracker.store.cache import SagaCache
from saga_tracker.store.dead_letters import LetterFilters, LetterRow
from saga_tracker.store.plans import ActKind, Plan
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.selections import Selection
from stack import Stack
from support.postgres import scratch_database
from support.read_back import read_back

ORDER = newest("order")
AUTHORIZE, RESERVE, BURN, *_ = (step.name for step in ORDER.steps)
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
PARTITIONS = 6
MANY = 10_000
STATEMENTS_MAX = MANY // 20
"""Whole batches go through single statements: a dozen for each 500 sagas, and each worker's last query."""


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade("saga_tracker", engine)
        yield engine


@pytest.fixture
def operator_acts() -> OperatorActs:
    return OperatorActs(DEFINITIONS, Codec(LocalRegistry()), SagaCache())


def park(engine: Engine, *facts: Fact, count: int = 1, version: int = 1) -> list[str]:
    """Store sagas with these facts; return their ids."""
    progress = merge_all(NOTHING, (Started(at=AT), *facts))
    decision = decide(ORDER, progress)
    rows = [
        SagaRow(
            saga_id=new_id(), saga_type="order", saga_version=version, partition=number % PARTITIONS, progress=progress,
            started_at=AT, state=decision.state.value, phase=decision.phase.value, step=decision.step,
            reason=decision.parked, parked_at=AT, issued={END: 1} if decision.phase is Phase.ENDED else {},
        )
        for number in range(count)
    ]  # fmt: skip
    with engine.begin() as tx:
        sagas.save(tx, rows, now=AT)
    return [row.saga_id for row in rows]


def plan_for(
    engine: Engine, saga_ids: Sequence[str] | None = None, act: ActKind = ActKind.REDRIVE, **given: Any
) -> Plan:
    with engine.begin() as tx:
        selection = Selection(saga_ids=saga_ids, **given)
        return previews.make(tx, DEFINITIONS, act, selection, by="operator-1", now=datetime.now(UTC))


def apply(engine: Engine, plan: Plan, *, rate_per_s: int = 100_000) -> bool:
    with engine.begin() as tx:
        now = datetime.now(UTC)
        return plans.apply(tx, plan.plan_id, by="operator-1", reason="fixed", rate_per_s=rate_per_s, now=now)


def work(
    engine: Engine, operator_acts: OperatorActs, partitions: Sequence[int] = range(PARTITIONS), *, in_s: float = 0.0
) -> int:
    """Play the worker until these partitions are done; return how many commands it would publish.

    Each batch of acts is on Kafka, and read back, before its commands are sent. The worker's clock begins ``in_s`` from
    now, and a second passes with each transaction.
    """
    sent, recorder = 0, Recorder(DEFINITIONS, Codec(LocalRegistry()), SagaCache())
    now = datetime.now(UTC) + timedelta(seconds=in_s)
    while True:
        now += timedelta(seconds=1)
        with engine.begin() as tx:
            rows = operator_acts.apply_next(tx, partitions, now=now)
        if not rows:
            return sent
        assert {row.topic for row in rows} == {DECISIONS_TOPIC}, "nothing is sent before the act is on Kafka"
        sent += len(read_back(engine, recorder, rows, now=now))


def items(engine: Engine, plan: Plan) -> dict[str, plans.Item]:
    with engine.connect() as tx:
        found = plans.items(tx, plan.plan_id, after="", state=None, limit=MANY * 2)
        return {item.saga_id: item for item in found}


def one(engine: Engine, statement: str, **values: object) -> Any:
    with engine.connect() as tx:
        return tx.execute(text(statement), values).scalar_one()


EXHAUSTED = (Succeeded(step=AUTHORIZE), RetriesExhausted(step=RESERVE, reason="order 17 fails with 3.5"))


def test_one_plan_runs_ten_thousand_parked_sagas_once_and_through_a_crash(
    engine: Engine, operator_acts: OperatorActs
) -> None:
    saga_ids = park(engine, *EXHAUSTED, count=MANY)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: statements.append(statement))
    with engine.connect() as tx:
        (group,) = [each for each in selections.groups(tx) if each.count >= MANY]
    assert (group.step, group.reason) == (RESERVE, f"{RESERVE}: order <n> fails with <n>")
    plan = plan_for(engine, group=group.group)
    assert (plan.state, plan.counts) == ("PLANNED", {"PLANNED": MANY})
    assert apply(engine, plan)
    with engine.connect() as tx:  # without a commit: the worker is killed before it
        assert len(operator_acts.apply_next(tx, [0, 1], now=datetime.now(UTC))) == BATCH_MAX
    first = work(engine, operator_acts, [0, 1])
    assert 0 < first < MANY
    assert first + work(engine, operator_acts, in_s=60.0) == MANY
    assert len(statements) < STATEMENTS_MAX
    with engine.connect() as tx:
        done = plans.find(tx, plan.plan_id)
        commands = tx.execute(
            text("SELECT payload, aggregatetype FROM outbox WHERE aggregatetype <> 'saga.decisions'")
        ).all()
    assert done is not None
    assert (done.state, done.counts) == ("APPLIED", {"DONE": MANY})
    codec = Codec(LocalRegistry())
    decoded = [codec.decode(bytes(row.payload)) for row in commands]
    assert Counter(each.saga_id for each in decoded) == Counter(saga_ids)
    assert all(isinstance(each, RedriveStep) and (each.step, each.attempt) == (RESERVE, 1) for each in decoded)
    assert {row.aggregatetype for row in commands} == {"inventory.commands"}
    assert one(engine, "SELECT count(*) FROM operator_log WHERE plan_id = :plan", plan=plan.plan_id) == MANY
    assert one(engine, "SELECT count(*) FROM timeline WHERE kind = 'act' AND detail = 'operator-1: fixed'") == MANY
    assert not apply(engine, plan), "the plan was applied before"
    assert work(engine, operator_acts) == 0


def test_a_plan_shows_what_each_saga_would_run_or_why_it_cannot(engine: Engine) -> None:
    (exhausted,) = park(engine, *EXHAUSTED)
    (dead,) = park(engine, Rejected(step=BURN, reason="no"), CommandDead(command=RESERVE, reason="a bug"))
    (contradictory,) = park(engine, Rejected(step=AUTHORIZE, reason="no"), Succeeded(step=AUTHORIZE))
    (fence,) = park(engine, Cancelled(at=AT, by="c", reason="r"), CommandDead(command="fence:ledger", reason="a bug"))
    (running,) = park(engine)
    (foreign,) = park(engine, version=99)
    found = items(engine, plan_for(engine, [exhausted, dead, contradictory, fence, running, foreign]))
    assert {saga_id: (item.state, item.runs) for saga_id, item in found.items()} == {
        exhausted: ("PLANNED", f"RedriveStep {RESERVE}"),
        dead: ("PLANNED", f"ReleaseInventory {RESERVE}"),
        fence: ("PLANNED", ", ".join(f"FenceSaga {service}" for service in ORDER.services)),
        contradictory: ("NOT_RUNNABLE", None),
        running: ("NOT_RUNNABLE", None),
        foreign: ("NOT_RUNNABLE", None),
    }
    assert "not parked" in str(found[running].detail)
    assert "cannot both be true" in str(found[contradictory].detail)
    assert "version 99" in str(found[foreign].detail)


def test_a_saga_that_changed_since_it_was_planned_is_skipped(engine: Engine, operator_acts: OperatorActs) -> None:
    changed, same = park(engine, *EXHAUSTED, count=2)
    plan = plan_for(engine, [changed, same])
    with engine.begin() as tx:
        sagas.save(tx, list(sagas.load(tx, [changed]).values()), now=AT)
    assert apply(engine, plan)
    assert work(engine, operator_acts) == 1
    found = items(engine, plan)
    assert {saga_id: item.state for saga_id, item in found.items()} == {changed: "CHANGED", same: "DONE"}
    assert "plan again" in str(found[changed].detail)


def test_a_plan_keeps_to_its_rate(engine: Engine, operator_acts: OperatorActs) -> None:
    plan = plan_for(engine, park(engine, *EXHAUSTED, count=30))
    assert apply(engine, plan, rate_per_s=20)
    began_at = datetime.now(UTC) + timedelta(seconds=1)
    counts = []
    for tick in range(30):
        with engine.begin() as tx:
            now = began_at + timedelta(seconds=tick / 10)
            counts.append(len(operator_acts.apply_next(tx, range(PARTITIONS), now=now)))
    assert [sum(counts[:10]), sum(counts[10:20]), sum(counts)] == [20, 10, 30]


def test_a_parked_saga_is_compensated_instead_of_redriven(engine: Engine, operator_acts: OperatorActs) -> None:
    (parked,) = park(engine, *EXHAUSTED)
    plan = plan_for(engine, [parked], ActKind.COMPENSATE)
    assert apply(engine, plan)
    assert work(engine, operator_acts) == len(ORDER.services)
    with engine.begin() as tx:
        row = sagas.load(tx, [parked])[parked]
    assert (row.state, row.phase, row.cause, row.parked_at) == ("PENDING", "FENCING", "CANCELLED", None)
    assert "only one on its way" in str(items(engine, plan_for(engine, [parked], ActKind.COMPENSATE))[parked].detail)


def test_a_message_of_no_known_step_is_redriven_in_the_service_that_parked_it(
    engine: Engine, operator_acts: OperatorActs
) -> None:
    (ended,) = park(engine, *(Succeeded(step=step.name) for step in ORDER.steps))
    letter = LetterRow(
        topic="checkout.dlq", partition=0, offset=1, letter_id=new_id(), message_id=new_id(), saga_id=ended,
        service="checkout", step=None, type="OrderConfirmed", reason="fails", redrive=0, is_open=True,
    )  # fmt: skip
    with engine.begin() as tx:
        dead_letters.save(tx, [letter], now=AT)
        listed = dead_letters.listed(tx, LetterFilters(saga_id=ended), limit=9)
        assert [each.saga_state for each in listed] == ["CONFIRMED"]
    plan = plan_for(engine, [ended])
    assert items(engine, plan)[ended].runs == "RedriveStep checkout"
    assert apply(engine, plan)
    assert work(engine, operator_acts) == 1
    with engine.begin() as tx:
        assert dead_letters.listed(tx, LetterFilters(saga_id=ended), limit=9) == []
        assert dead_letters.services_without_step(tx, [ended]) == {}


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        (Selection(saga_ids=["unknown"]), "for example unknown"),
        (Selection(group="00000000"), "No parked saga fits"),
        (Selection(step="no_such_step"), "No parked saga fits"),
        (Selection(started_before=AT - timedelta(days=9)), "No parked saga fits"),
    ],
)
def test_a_selection_that_fits_nothing_is_refused(engine: Engine, selection: Selection, reason: str) -> None:
    with pytest.raises(InvalidSelection, match=reason), engine.begin() as tx:
        previews.make(tx, DEFINITIONS, ActKind.REDRIVE, selection, by="operator-1", now=AT)
