"""The memory of a process, with its children."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from stack import status

MEBIBYTE = 1 << 20
HELD = 64
PROGRAM = f"held = b'x' * ({HELD} << 20); print(len(held), flush=True); input()"


def holding() -> subprocess.Popen[str]:
    """Start a child that holds memory, and return once it does."""
    child = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == f"{HELD * MEBIBYTE}\n"
    return child


def test_the_memory_of_a_process_includes_what_its_children_hold() -> None:
    with holding() as child:
        own = psutil.Process().memory_info().rss
        alone, together = status.memory_bytes(child.pid), status.memory_bytes(os.getpid())
        child.communicate("\n")
    assert alone is not None
    assert together is not None
    assert alone > HELD * MEBIBYTE
    assert together > own + (HELD - 1) * MEBIBYTE


def test_a_process_that_has_ended_has_no_memory() -> None:
    with holding() as child:
        child.communicate("\n")
    assert status.memory_bytes(child.pid) is None
