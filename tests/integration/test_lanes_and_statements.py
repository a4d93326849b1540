"""The doors of awaited steps beside callbacks: lanes that must be open, statements that do not show an attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from chassis.http.downstream import NotTried
from chassis.saga import attempt_rows, missing
from chassis.saga.answers import Accepted, Proven
from chassis.saga.attempts import AwaitedPolicy, Outcome, Statement, attempt_key
from chassis.saga.handlers import Handlers
from chassis.saga.schema import service_metadata
from chassis.saga.steps import AwaitedStep
from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from stack import Stack, from_environment, up
from support.awaiting import PAY, PAYOUT, Service
from support.postgres import scratch_database
from support.toy import MARKS

GRACE = timedelta(hours=24)
LANES = replace(PAYOUT, attempts_max=5, grace=GRACE)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    home: Path = tmp_path_factory.getbasetemp() / "lanes"
    stack: Stack = up(from_environment(home=home, only=("postgres",)))
    try:
        with scratch_database(stack) as engine:
            service_metadata(has_awaited_steps=True).create_all(engine)
            with engine.begin() as tx:
                MARKS.create(tx)
            yield engine
    finally:
        stack.down()


@dataclass(kw_only=True)
class Lane(Service):
    """A service whose payouts wait for a lane that a test opens and closes."""

    policy: AwaitedPolicy = LANES
    opened: set[str] = field(default_factory=lambda: {"members"})

    def __post_init__(self) -> None:
        Service.__post_init__(self)
        (step,) = (each for each in self.handlers.steps if isinstance(each, AwaitedStep))
        self.handlers = Handlers.of([replace(step, lane=lambda _: "members", open_lanes=self.found)])

    def found(self, lanes: Collection[str], _tx: Connection) -> Collection[str]:
        return self.opened.intersection(lanes)


@pytest.fixture
def service(engine: Engine) -> Lane:
    return Lane(engine=engine)


def covering(service: Service, begins: datetime, ends: datetime, *, read_at: datetime | None = None) -> None:
    """Hand in a statement that does not show the first attempt."""
    cover = Statement(covers_from=begins, covers_until=ends, read_at=read_at or ends)
    with service.engine.begin() as tx:
        key = attempt_key(service.saga_id, PAY, 1)
        missing.hand_in(tx, [key], cover, provider="bank", statement_id=f"{begins}{ends}{read_at}", now=service.now)


def test_after_a_failure_of_ours_the_next_attempt_waits_until_its_lane_is_open(service: Lane) -> None:
    service.trigger()
    service.acknowledge()
    service.opened.clear()
    service.call(Proven(outcome=Outcome.FAILED))
    assert service.state == "PAUSED"
    for _ in range(2):
        service.wait(100)
        assert (service.state, service.calls) == ("PAUSED", []), "nothing is sent while the lane is closed"
    service.opened.add("members")
    with service.engine.begin() as tx:
        attempt_rows.wake(tx, PAY, [service.saga_id], now=service.now)
    service.wait(0)
    (call,) = service.calls
    assert (service.state, call.number, call.key) == ("STARTED", 2, attempt_key(service.saga_id, PAY, 2))


def test_a_send_that_was_refused_for_a_time_is_made_when_that_is_over(service: Lane) -> None:
    service.trigger()
    service.acknowledge()
    service.call(NotTried("the lane is closed", retry_after_s=60))
    service.wait(30)
    assert (service.state, service.calls) == ("STARTED", [])
    service.wait(31)
    (call,) = service.calls
    assert (call.act, call.number) == (AwaitedAct.SEND, 1), "the same attempt goes, under the same key"


def test_a_statement_that_covers_the_sends_and_their_grace_proves_that_an_attempt_never_arrived(
    service: Lane,
) -> None:
    sent_at = service.now
    service.trigger()
    service.acknowledge()
    service.lose()
    service.wait(60)
    service.lose()
    assert service.state == "UNSURE"
    service.now += timedelta(days=2)
    covering(service, sent_at, sent_at + timedelta(hours=23))
    assert (service.decide(), service.state) == ([], "UNSURE"), "it ends before the grace does"
    covering(service, sent_at + timedelta(minutes=1), service.now)
    assert (service.decide(), service.state) == ([], "UNSURE"), "it begins after the first send"
    covering(service, sent_at, service.now, read_at=sent_at + timedelta(hours=1))
    assert (service.decide(), service.state) == ([], "UNSURE"), "it was read too early"
    covering(service, sent_at, service.now)
    service.decide()
    assert service.state == "PAUSED", "the attempt is proven to have failed, and the next one may follow"
    assert sorted(service.fates) == ["REPEATED", "REPEATED", "REPEATED", "SETTLED"]


def test_a_statement_without_an_attempt_that_arrived_proves_nothing(service: Lane) -> None:
    sent_at = service.now
    service.trigger()
    service.acknowledge()
    service.call(Accepted(provider_id=f"bank:{service.saga_id}"))
    service.now += timedelta(days=2)
    covering(service, sent_at, service.now)
    assert (service.decide(), service.state) == ([], "SENT")


def test_a_statement_that_is_handed_in_twice_is_one_piece_of_evidence(service: Lane) -> None:
    service.trigger()
    service.acknowledge()
    covering(service, service.now, service.now)
    covering(service, service.now, service.now)
    service.decide()
    assert service.fates == ["REPEATED"]
    assert types(service.published)[1:] == []
