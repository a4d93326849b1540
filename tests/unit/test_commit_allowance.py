"""How much time a transaction that plans a call gets until its commit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from chassis.saga.commit_allowance import ALLOWANCE_MAX, CommitAllowance
from chassis.saga.execution import Execution
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Work
from chassis.saga.steps import COMMIT_ALLOWANCE
from chassis.saga.unit_of_work import Outgoing
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from proof.schemas import LocalRegistry
from support import toy

SECOND = timedelta(seconds=1)
durations = st.lists(st.floats(0.0, 60.0).map(lambda seconds: timedelta(seconds=seconds)), max_size=20)


def test_fast_transactions_have_the_least_allowance() -> None:
    allowance = CommitAllowance()
    for _ in range(100):
        allowance.took(SECOND / 100)
    assert allowance.present == COMMIT_ALLOWANCE


@given(before=durations, slow_s=st.floats(0.5, 7.0))
def test_after_a_slow_transaction_the_next_one_may_be_as_slow(before: list[timedelta], slow_s: float) -> None:
    allowance = CommitAllowance()
    for each in (*before, slow_s * SECOND):
        allowance.took(each)
    assert slow_s * SECOND < allowance.present <= ALLOWANCE_MAX


def test_a_slow_phase_ends() -> None:
    allowance = CommitAllowance()
    allowance.took(10 * SECOND)
    for _ in range(30):
        allowance.took(SECOND / 100)
    assert allowance.present == COMMIT_ALLOWANCE


class SlowHost:
    """Runs no transaction, but its commits take as long as the test says."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.commit = timedelta(0)

    def transact(self, work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        self.now += self.commit
        return Outgoing()

    @contextmanager
    def removal(self) -> Iterator[Sequence[str]]:
        yield ()

    def committed(self, out: Outgoing) -> None: ...

    def batch_failed(self, error: Exception) -> None: ...

    def piece_failed(self, piece: Work, error: Exception) -> None: ...


def test_an_execution_allows_for_what_its_last_transaction_took() -> None:
    host = SlowHost()
    execution = Execution(
        toy.NAME, Handlers.of(toy.handlers(toy.WellProvider())), Codec(LocalRegistry()), host,
        clock=lambda: host.now, new_id=new_id, jitter=lambda: random.Random(0),
    )  # fmt: skip
    host.commit = 5 * SECOND
    execution.run(Work())
    assert execution.allowance > 5 * SECOND
    host.commit = timedelta(0)
    for _ in range(30):
        execution.run(Work())
    assert execution.allowance == COMMIT_ALLOWANCE
