"""Our processes that outlived their supervisor. The stack's id in their environment identifies them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil

MARKER = "BARAZA_STACK_ID"
GRACE_S = 20
"""Kafka and PostgreSQL close their files within this time. A process that does not is killed, and recovers later."""

EMPTY_SCANS = 3
SCAN_PAUSE_S = 0.03


def find(stack_id: str, postgres_folder: Path) -> list[psutil.Process]:
    """Return the processes that this stack started and that still run."""
    found = {process.pid: process for process in psutil.process_iter() if _marker(process) == stack_id}
    if (postmaster := _postmaster(postgres_folder)) is not None:
        found[postmaster.pid] = postmaster
    found.pop(os.getpid(), None)
    return list(found.values())


def sweep(stack_id: str, postgres_folder: Path) -> list[str]:
    """End them all, gracefully within GRACE_S, and return their names.

    A process that just starts has no environment for a moment, so several empty scans are needed.
    """
    names: list[str] = []
    scans = 0
    while scans < EMPTY_SCANS:
        processes = find(stack_id, postgres_folder)
        names += [_name(process) for process in processes]
        _end(processes)
        scans = 0 if processes else scans + 1
        time.sleep(SCAN_PAUSE_S)
    return names


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        _send(process, signal.SIGINT if _name(process) == "postgres" else signal.SIGTERM)
    _, stubborn = psutil.wait_procs(processes, GRACE_S)
    for process in stubborn:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, GRACE_S)


def _marker(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARKER)
    except (psutil.Error, OSError):
        return None


def _postmaster(folder: Path) -> psutil.Process | None:
    """Find the server by its pid file too, since it overwrites the memory that its environment is read from."""
    try:
        process = psutil.Process(int((folder / "postmaster.pid").read_text().splitlines()[0]))
        return process if str(folder) in process.cmdline() else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return str(process.pid)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
