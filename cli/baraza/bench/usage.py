"""Processor time and memory of the processes of a stack, PostgreSQL with all of its children."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
from stack.lifecycle import Stack

SAMPLE_S = 1.0
MEBIBYTE = 1_048_576


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

    def memory_mb(self) -> dict[str, float]:
        """Return the present memory of each process; what PostgreSQL's processes share counts once."""
        return {name: _memory_mb(pid) for name, pid in self._pids().items()}

    def _pids(self) -> Mapping[str, int]:
        return self.stack.process_ids()

    def _sample(self) -> None:
        while not self._stopping.wait(SAMPLE_S):
            for name, memory_mb in self.memory_mb().items():
                self.peaks_mb[name] = max(self.peaks_mb.get(name, 0.0), memory_mb)


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
