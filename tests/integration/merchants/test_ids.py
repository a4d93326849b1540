"""Worker slots in real PostgreSQL: no id twice, whatever clocks do, and however many processes there are."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from merchant.snowflake import EPOCH, SLOTS, BeyondBound, decompose, ms_of
from merchant.worker_slots import LEASE_S, NoFreeSlot, PaymentIds
from support.merchants import MerchantStack

NOW_S = EPOCH.timestamp() + 1_000_000


class Clocks:
    """A clock that people set, and one that no one sets."""

    def __init__(self) -> None:
        self.now_s, self.age_s = NOW_S, 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.age_s += seconds


@pytest.fixture(autouse=True)
def free_slots(merchant_stack: MerchantStack) -> Iterator[None]:
    reset = text("UPDATE worker_slots SET holder = NULL, leased_until = '-infinity', last_ms = 0")
    with merchant_stack.engine.begin() as tx:
        tx.execute(reset)
    yield
    with merchant_stack.engine.begin() as tx:
        tx.execute(reset)


def ids_of(merchant_stack: MerchantStack, clocks: Clocks) -> PaymentIds:
    return PaymentIds(merchant_stack.engine, clock=lambda: clocks.now_s, age_clock=lambda: clocks.age_s)


def end_leases(merchant_stack: MerchantStack) -> None:
    """Let the time of every lease pass in the database."""
    with merchant_stack.engine.begin() as tx:
        tx.execute(text("UPDATE worker_slots SET leased_until = now() WHERE holder IS NOT NULL"))


def only_slot(merchant_stack: MerchantStack) -> None:
    """Leave one slot that can be leased, so that leases follow one another on it."""
    with merchant_stack.engine.begin() as tx:
        tx.execute(text("UPDATE worker_slots SET leased_until = 'infinity' WHERE slot > 0"))


def test_two_processes_have_two_slots(merchant_stack: MerchantStack) -> None:
    clocks = Clocks()
    one, other = ids_of(merchant_stack, clocks), ids_of(merchant_stack, clocks)
    made = [*one.next(100), *other.next(100)]
    assert len(set(made)) == 200
    assert len({decompose(each).slot for each in made}) == 2


def test_a_process_that_was_paused_beyond_its_lease_issues_nothing_of_it(merchant_stack: MerchantStack) -> None:
    only_slot(merchant_stack)
    paused_clocks, clocks = Clocks(), Clocks()
    paused, other = ids_of(merchant_stack, paused_clocks), ids_of(merchant_stack, clocks)
    before = paused.next(10)
    end_leases(merchant_stack)
    after = other.next(10)
    assert {decompose(each).slot for each in before + after} == {0}
    # Its clock has stood still, so by the clock its lease is as fresh as it was.
    paused_clocks.age_s += LEASE_S
    with pytest.raises(NoFreeSlot, match="All 1,024 worker slots are leased"):
        paused.next()
    assert len(set(before + after)) == 20


def test_a_lease_that_was_lost_is_not_renewed(merchant_stack: MerchantStack) -> None:
    clocks = Clocks()
    ids = ids_of(merchant_stack, clocks)
    (first,) = ids.next()
    with merchant_stack.engine.begin() as tx:
        taken = "UPDATE worker_slots SET holder = 'another', leased_until = 'infinity' WHERE slot = :slot"
        tx.execute(text(taken), {"slot": decompose(first).slot})
    clocks.sleep(LEASE_S / 2)
    assert decompose(ids.next()[0]).slot != decompose(first).slot


def test_a_lease_is_renewed_while_it_is_used(merchant_stack: MerchantStack) -> None:
    clocks = Clocks()
    ids = ids_of(merchant_stack, clocks)
    made = []
    for _ in range(40):
        made += ids.next(3)
        clocks.sleep(7)
    assert len(set(made)) == 120
    assert len({decompose(each).slot for each in made}) == 1


def test_a_clock_that_goes_back_while_it_runs_repeats_nothing(merchant_stack: MerchantStack) -> None:
    clocks = Clocks()
    ids = ids_of(merchant_stack, clocks)
    made = ids.next(10)
    clocks.now_s -= 3_600
    made += ids.next(10_000)
    assert made == sorted(set(made))


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_clock_that_goes_back_across_a_restart_repeats_nothing(
    merchant_stack: MerchantStack, is_killed: bool
) -> None:
    only_slot(merchant_stack)
    clocks = Clocks()
    first = ids_of(merchant_stack, clocks)
    made = first.next(5_000)
    if is_killed:
        end_leases(merchant_stack)
    else:
        first.release()
    clocks.now_s -= 86_400
    made += ids_of(merchant_stack, clocks).next(5_000)
    assert made == sorted(set(made))
    assert {decompose(each).slot for each in made} == {0}


def test_a_clock_that_jumps_ahead_is_followed_by_a_renewal(merchant_stack: MerchantStack) -> None:
    clocks = Clocks()
    ids = ids_of(merchant_stack, clocks)
    made = ids.next(2)
    clocks.now_s += 86_400
    made += ids.next(2)
    assert made == sorted(set(made))
    assert decompose(made[-1]).ms == ms_of(clocks.now_s)


def test_all_slots_taken_is_said_clearly(merchant_stack: MerchantStack) -> None:
    clocks = Clocks()
    holders = [ids_of(merchant_stack, clocks) for _ in range(3)]
    with merchant_stack.engine.begin() as tx:
        taken = "UPDATE worker_slots SET leased_until = 'infinity' WHERE slot < :most"
        tx.execute(text(taken), {"most": SLOTS - 2})
    assert {decompose(holder.next()[0]).slot for holder in holders[:2]} == {SLOTS - 2, SLOTS - 1}
    with pytest.raises(NoFreeSlot, match="is free after 30 s"):
        holders[2].next()
    holders[0].release()
    assert decompose(holders[2].next()[0]).slot == SLOTS - 2


def test_a_machine_whose_age_clock_runs_away_issues_nothing(merchant_stack: MerchantStack) -> None:
    class Racing(Clocks):
        def age(self) -> float:
            self.age_s += LEASE_S
            return self.age_s

    clocks = Racing()
    ids = PaymentIds(merchant_stack.engine, clock=lambda: clocks.now_s, age_clock=clocks.age)
    with pytest.raises(BeyondBound, match="check the machine's clock"):
        ids.next()


def test_threads_of_one_process_share_a_slot(merchant_stack: MerchantStack) -> None:
    ids = PaymentIds(merchant_stack.engine)
    with ThreadPoolExecutor(8) as pool:
        made = [each for batch in pool.map(lambda _: ids.next(500), range(16)) for each in batch]
    assert len(set(made)) == 8_000


PROCESS = """
import sys
from sqlalchemy import create_engine
from chassis.postgres.database import prepare
from merchant.worker_slots import NoFreeSlot, PaymentIds
ids = PaymentIds(prepare(create_engine(sys.argv[1])), lease_s=0.6)
while True:
    try:
        print(*ids.next(200), flush=True)
    except NoFreeSlot:
        pass  # the lease of the killed process ends within its 0.6 s
"""


def test_real_processes_that_are_paused_and_killed_never_issue_an_id_twice(merchant_stack: MerchantStack) -> None:
    """Three processes share few slots with short leases, so that slots change hands while one of them is stopped."""
    with merchant_stack.engine.begin() as tx:
        tx.execute(text("UPDATE worker_slots SET leased_until = 'infinity' WHERE slot > 2"))
    url = merchant_stack.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", PROCESS, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made: list[int] = []

    def read(process: subprocess.Popen[str], lines: int) -> None:
        assert process.stdout is not None
        for _ in range(lines):
            made.extend(map(int, process.stdout.readline().split()))

    try:
        for process in processes:
            read(process, 5)
        processes[0].send_signal(signal.SIGSTOP)
        read(processes[1], 20)
        processes[1].kill()
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        processes[0].send_signal(signal.SIGCONT)
        for process in (processes[0], processes[2], processes[3]):
            read(process, 30)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert len(made) > 20_000
    assert len(made) == len(set(made))
