"""Many schedules, several at a time: each of our processes has its own database in one PostgreSQL."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import structlog

from proof import databases
from proof.controls import switch_on, switched_on
from proof.databases import ORDERS, Database, Layout
from proof.payment_simulation import simulate_payments
from proof.payment_tables import PAYMENTS
from proof.sacco_simulation import simulate_sacco
from proof.sacco_tables import SACCO
from proof.simulation import Result, simulate
from stack import from_environment, postgres, up


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of schedules: the tables that they need, and what runs one."""

    layout: Layout
    simulate: Callable[..., Result]


OF_ORDERS, OF_PAYMENTS, OF_SACCO = "orders", "payments", "sacco"
KINDS: Mapping[str, Kind] = {
    OF_ORDERS: Kind(layout=ORDERS, simulate=simulate),
    OF_PAYMENTS: Kind(layout=PAYMENTS, simulate=simulate_payments),
    OF_SACCO: Kind(layout=SACCO, simulate=simulate_sacco),
}
CHUNK = 20
"""The seeds that a process takes at once: few enough that all processes finish at about the same time."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """The totals of all schedules."""

    first: int
    control: str | None = None
    processes: int = 1
    schedules: int = 0
    sagas: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    virtual_s: float = 0.0
    took_s: float = 0.0
    violations: list[dict[str, Any]] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Add one schedule."""
        self.schedules += 1
        self.sagas += result.states
        self.faults += result.faults
        self.virtual_s += result.virtual_s
        self.violations += [{"seed": result.seed, **asdict(each)} for each in result.violations]

    @property
    def per_s(self) -> float:
        """Schedules per second."""
        return self.schedules / self.took_s if self.took_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the figures as they are printed."""
        return {
            **asdict(self),
            "sagas": dict(self.sagas.most_common()),
            "faults": dict(self.faults.most_common()),
            "virtual_s": round(self.virtual_s),
            "took_s": round(self.took_s, 1),
            "schedules_per_s": round(self.per_s, 1),
        }


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL of our own on a free port, in a temporary folder; yield its address."""
    with tempfile.TemporaryDirectory(prefix="baraza-proof-") as home:
        stack = up(from_environment(home=Path(home), only=("postgres",)))
        try:
            address = f"{stack.endpoints.postgres_host}:{stack.endpoints.postgres_port}"
            yield f"postgresql://{postgres.SUPERUSER}:{stack.password(postgres.SUPERUSER)}@{address}"
        finally:
            stack.down()


def run(
    seeds: range,
    *,
    kind: str = OF_ORDERS,
    control_name: str | None = None,
    processes: int | None = None,
    advance: Callable[[int], None] = lambda _count: None,
) -> Figures:
    """Run the schedules of these seeds, and report progress; with a control, stop at the first violation."""
    processes = processes or os.cpu_count() or 1
    figures = Figures(first=seeds.start, control=control_name, processes=processes)
    began_s = time.monotonic()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    spawning = multiprocessing.get_context("spawn")
    cores: SimpleQueue[int] = spawning.SimpleQueue()
    for core in islice(cycle(_cores()), processes):
        cores.put(core)
    with (
        postgresql() as server,
        ProcessPoolExecutor(
            processes, spawning, initializer=_begin, initargs=(server, kind, control_name, cores)
        ) as pool,
    ):
        try:
            for done in as_completed([pool.submit(_run_chunk, chunk) for chunk in chunks]):
                for result in done.result():
                    figures.add(result)
                figures.took_s = time.monotonic() - began_s
                advance(len(done.result()))
                if control_name and figures.violations:
                    break
        finally:  # so that an interrupt does not wait for the rest
            pool.shutdown(cancel_futures=True)
    return figures


def _silence_logs() -> None:
    """Drop what the product logs: in a schedule its errors are expected, and the trace shows what happened."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def _logs_silenced() -> Iterator[None]:
    """Silence the logs for a while, in a process that goes on to other work."""
    before = structlog.get_config()
    _silence_logs()
    try:
        yield
    finally:
        structlog.configure(**before)


def first_violation(
    seeds: Iterable[int], database: Database, *, control_name: str, kind: str = OF_ORDERS
) -> Result | None:
    """Run the schedules of these seeds one after the other in this process without a rule, to the first violation.

    Quicker than :func:`run` for a control that is found soon: no processes and no database are started for it.
    """
    with switched_on(control_name):
        return next((result for result in results(seeds, database, kind=kind) if result.violations), None)


def results(seeds: Iterable[int], database: Database, *, kind: str = OF_ORDERS) -> Iterator[Result]:
    """Run the schedules of these seeds one after the other in this process, and yield each one's result."""
    with _logs_silenced():
        yield from (KINDS[kind].simulate(seed, database) for seed in seeds)


@contextmanager
def one_database(kind: str = OF_ORDERS) -> Iterator[Database]:
    """Run a PostgreSQL of our own with one database for schedules."""
    with postgresql() as server, closing(databases.create(server, "proof", KINDS[kind].layout)) as database:
        yield database


def replay(seed: int, *, control_name: str | None = None, kind: str = OF_ORDERS) -> tuple[Figures, tuple[str, ...]]:
    """Run the schedule of one seed in this process; return the totals and the trace."""
    figures = Figures(first=seed, control=control_name)
    switch_on(control_name)
    with _logs_silenced(), one_database(kind) as database:
        began_s = time.monotonic()
        result = KINDS[kind].simulate(seed, database, is_traced=True)
    figures.add(result)
    figures.took_s = time.monotonic() - began_s
    return figures, result.trace


_database: Database
_simulate: Callable[..., Result]
"""The database of this process, where it belongs to a pool, and what it runs."""


def _cores() -> list[int]:
    """Return the cores that we may run on; one that stands for all where the system has no such choice."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def _begin(server: str, kind: str, control_name: str | None, cores: SimpleQueue[int]) -> None:
    global _database, _simulate
    _simulate = KINDS[kind].simulate
    _silence_logs()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})  # and PostgreSQL's processes for this one follow it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    _database = databases.create(server, f"proof_{os.getpid()}", KINDS[kind].layout)
    switch_on(control_name)
    gc.disable()  # collected between chunks instead
    gc.freeze()


def _run_chunk(seeds: range) -> list[Result]:
    gc.collect()
    return [_simulate(seed, _database) for seed in seeds]
