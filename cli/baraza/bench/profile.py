"""What a Python process spends its time on, by part of the work, as py-spy sees it from outside.

Only samples that hold the interpreter's lock count. What a process uses beyond them is native: librdkafka, libpq, TLS.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from baraza.terminal import Refusal

RATE_PER_S = 200
GIVE_UP_S = 30.0

PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("API", "uvicorn", ()),
    ("API", "checkout/desk.py", ()),
    ("publish", "messaging/outbox.py", ("publish", "poll", "flush", "_on_delivery", "take_delivered", "forget")),
    ("decode", "messaging/worker.py", ("_sort", "_raw")),
    ("decode", "saga_tracker/recording.py", ("_read",)),
    ("decode", "saga_tracker/app.py", ("record_of",)),
    ("fetch", "messaging/worker.py", ("_take", "_store_offsets")),
    ("encode", "messaging/turn.py", ("emit",)),
    ("encode", "saga_tracker/recording.py", ("_issue",)),
    ("load", "messaging/effects.py", ("load",)),
    ("load", "saga_tracker/tables.py", ("load", "lock_offsets")),
    ("load", "/tables.py", ("load_", "lock_")),
    ("save", "messaging/effects.py", ("save",)),
    ("save", "messaging/deferred.py", ()),
    ("save", "messaging/outbox.py", ("save", "remove")),
    ("save", "/tables.py", ()),
    ("commit", "sqlalchemy", ("commit", "_commit_impl", "do_commit", "_begin_impl")),
    ("decide", "messaging/handling.py", ("_run_step", "_compensate", "_finish_step")),
    ("decide", "saga_tracker/recording.py", ("_apply", "_settle", "_finish", "_follow")),
    ("Faust", "faust/", ()),
    ("Faust", "aiokafka/", ()),
    ("Faust", "mode/", ()),
)
"""The first of these (part, in the file's path, function or all of them) that a stack passes, outermost frame first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Seconds of the interpreter by part of the work, for each process."""

    seconds: float
    by_process: Mapping[str, Mapping[str, float]]


def profile(processes: Mapping[str, int], seconds: float) -> Profile:
    """Look at these processes, by name, for so many seconds. Raises Refusal where py-spy cannot."""
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise Refusal("py-spy is not installed; run `uv sync`, or measure without --profile.")
    with tempfile.TemporaryDirectory(prefix="baraza-profile-") as folder:
        running = {
            name: subprocess.Popen(
                (
                    *(str(program), "record", "--pid", str(pid), "--duration", str(round(seconds))),
                    *("--rate", str(RATE_PER_S), "--gil", "--nonblocking", "--format", "raw"),
                    *("--output", str(Path(folder) / name)),
                ),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, pid in processes.items()
        }
        found: dict[str, Mapping[str, float]] = {}
        for name, process in running.items():
            _, error = process.communicate(timeout=seconds + GIVE_UP_S)
            if process.returncode:
                raise Refusal(f"py-spy cannot look at {name}: {error.strip()[-300:]}; measure without --profile.")
            lines = (Path(folder) / name).read_text().splitlines()
            found[name] = {part: count / RATE_PER_S for part, count in parts(lines).items()}
        return Profile(seconds=seconds, by_process=found)


def parts(lines: Iterable[str]) -> Counter[str]:
    """Return the samples by part, from lines of ``frame;frame;frame count``, outermost frame first."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        found[_part_of(stack.split(";"))] += int(count)
    return found


def _part_of(frames: Iterable[str]) -> str:
    for frame in frames:
        function, _, place = frame.partition(" (")
        for part, file, functions in PARTS:
            if file in place and (not functions or function.startswith(functions)):
                return part
    return "other"
