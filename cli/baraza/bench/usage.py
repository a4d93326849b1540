"""Processor time and memory of the processes of a stack, PostgreSQL with all of its children, and of all the rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from stack.lifecycle import Stack

SAMPLE_S = 1.0
MEBIBYTE = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was used up to a moment, in seconds: by each process of the stack, by the load, by the whole machine."""

    at_s: float
    stack_s: Mapping[str, float]
    load_s: float
    busy_s: float
    stolen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was used between two moments. ``others_cores`` are processors that worked for others than stack and load.

    ``stolen_cores`` are those that the machine wanted and its host did not give.
    """

    seconds: float
    stack_s: Mapping[str, float]
    load_s: float
    others_cores: float
    stolen_cores: float

    @classmethod
    def between(cls, before: Reading, after: Reading) -> Usage:
        """Return what was used from ``before`` to ``after``."""
        seconds = after.at_s - before.at_s
        stack_s = {name: used - before.stack_s.get(name, 0.0) for name, used in after.stack_s.items()}
        load_s = after.load_s - before.load_s
        others_s = after.busy_s - before.busy_s - sum(stack_s.values()) - load_s
        return cls(
            seconds=seconds,
            stack_s=stack_s,
            load_s=load_s,
            others_cores=max(0.0, others_s / seconds),
            stolen_cores=(after.stolen_s - before.stolen_s) / seconds,
        )


@dataclass(slots=True)
class Meter:
    """Reads the processes of a stack. While it is entered it samples their memory once a second."""

    stack: Stack
    peaks_mb: dict[str, float] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Meter:
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time that each process has used since it began, its children's included."""
        return {name: _cpu_s(pid) for name, pid in self._pids().items()}

    def read(self) -> Reading:
        """Return what was used up to now."""
        busy_s, stolen_s = _machine_s()
        return Reading(
            at_s=time.monotonic(), stack_s=self.cpu_s(), load_s=time.process_time(), busy_s=busy_s, stolen_s=stolen_s
        )

    def memory_mb(self) -> dict[str, float]:
        """Return the present memory of each process; what PostgreSQL's processes share counts once."""
        return {name: _memory_mb(pid) for name, pid in self._pids().items()}

    def _pids(self) -> Mapping[str, int]:
        return self.stack.process_ids()

    def _sample(self) -> None:
        while not self._stopping.wait(SAMPLE_S):
            for name, memory_mb in self.memory_mb().items():
                self.peaks_mb[name] = max(self.peaks_mb.get(name, 0.0), memory_mb)


def _machine_s() -> tuple[float, float]:
    """Return how long the processors that we may use were busy, and how long their host kept them from us.

    By the kernel's own count (``/proc/stat``). Waiting for a disk is not being busy.
    """
    usable = os.sched_getaffinity(0)
    every = psutil.cpu_times(percpu=True)
    times = [each for number, each in enumerate(every) if number in usable] or every
    busy_s = sum(each.user + each.nice + each.system + each.irq + each.softirq for each in times)
    return busy_s, sum(each.steal for each in times)


def _cpu_s(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        own = process.cpu_times()
        children = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return 0.0
    used_s = own.user + own.system + own.children_user + own.children_system
    for child in children:
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used_s += times.user + times.system
    return float(used_s)


def _memory_mb(pid: int) -> float:
    """Return the private memory of a process and its children, and the most shared memory that one of them maps.

    Proportional shares would be exact; for PostgreSQL's processes the kernel takes 0.2 s to compute them.
    """
    own = shared = 0
    try:
        process = psutil.Process(pid)
        family = (process, *process.children(recursive=True))
    except psutil.NoSuchProcess:
        return 0.0
    for each in family:
        try:
            memory = each.memory_info()
        except psutil.NoSuchProcess:
            continue
        own += memory.rss - memory.shared
        shared = max(shared, memory.shared)
    return float((own + shared) / MEBIBYTE)
