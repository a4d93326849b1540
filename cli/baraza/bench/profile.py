"""The processor time of a stack by part of the work, sampled from outside while it runs unchanged.

py-spy samples where Python's threads are; the kernel counts how long each thread ran. The time of Python's threads is
divided in proportion to the samples that held the interpreter's lock; the client library's threads are counted apart.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from baraza.terminal import Refusal

RATE_PER_S = 50
"""Enough for a load of 20 s, while py-spy itself stays below a twentieth of a processor for each process."""
TIMEOUT_S = 60.0
"""Beyond the time of the measurement itself."""
CLIENT_THREADS = "rdk:"
"""The beginning of the names of librdkafka's threads."""
CLIENT, OTHER = "Kafka's client library", "other"

PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("encode", "chassis/wire/codec.py", ("encode", "learn", "_learn_to_write")),
    ("decode", "chassis/wire/codec.py", ()),
    ("publish", "chassis/saga/publisher.py", ()),
    ("load", "chassis/saga/effects.py", ("load", "submit_load")),
    ("save", "chassis/saga/effects.py", ("save",)),
    ("save", "chassis/saga/outbox.py", ()),
    ("save", "chassis/saga/deferred.py", ()),
    ("load", "/tables.py", ("load", "_lock", "find", "lock_keys")),
    ("save", "/tables.py", ()),
    ("load", "saga_tracker/store/", ("load", "lock", "due_steps", "_read", "_saga_row")),
    ("save", "saga_tracker/store/", ()),
    ("decode", "saga_tracker/ingest/decoding.py", ()),
    ("decode", "saga_tracker/ingest/dead_letter_decoding.py", ()),
    ("decide", "/domain.py", ()),
    ("decide", "/handlers.py", ()),
    ("decide", "saga_tracker/model/progress.py", ()),
    ("decide", "saga_tracker/model/facts.py", ()),
    ("commit", "sqlalchemy/engine/default.py", ("do_commit", "do_rollback", "do_begin")),
    ("intake", "checkout/", ()),
    ("intake", "merchant/", ()),
    ("call", "payment/gateways/", ()),
    ("call", "bench_providers/gateway/charges.py", ()),
    ("decide", "risk/", ()),
    ("decide", "/merchant_steps.py", ()),
    ("store", "/store/", ()),
    ("decide", "saga_tracker/ingest/recorder.py", ()),
    ("decide", "saga_tracker/ingest/deadlines.py", ()),
    ("decide", "saga_tracker/ingest/operator_acts.py", ()),
    ("decide", "saga_tracker/ingest/tracked_saga.py", ()),
    ("decide", "saga_tracker/ingest/unit_of_work.py", ()),
    ("decide", "chassis/saga/batch.py", ()),
    ("decide", "chassis/saga/step_calls.py", ()),
    ("decide", "chassis/saga/compensations.py", ()),
    ("decide", "chassis/saga/unit_of_work.py", ()),
    ("decode", "chassis/saga/routing.py", ()),
    ("fetch", "chassis/process/intake.py", ()),
    ("fetch", "chassis/process/worker.py", ()),
    ("HTTP", "uvicorn/", ()),
    ("Faust", "faust/", ()),
    ("Faust", "aiokafka/", ()),
    ("Faust", "mode/", ()),
)
"""(part, in the file's path, beginnings of the function's name). The first rule that matches a frame counts, from the
innermost frame outwards. What py-spy calls ``Relay.publish.<locals>.<listcomp>`` is in ``publish``.

Frames of SQLAlchemy and psycopg match no rule: their time belongs to their caller.
"""


def parts_s(processes: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Sample these Python processes for ``seconds`` and return their processor time in seconds by part.

    Raises Refusal where py-spy fails.
    """
    program = Path(sys.executable).with_name("py-spy")
    used_s = {name: _threads_s(pid) for name, pid in processes.items()}
    with tempfile.TemporaryDirectory(prefix="baraza-profile-") as folder:
        files = {name: Path(folder) / name for name in processes}
        running = {name: _start(program, pid, seconds, files[name]) for name, pid in processes.items()}
        found: defaultdict[str, float] = defaultdict(float)
        for name, process in running.items():
            _, error = process.communicate(timeout=seconds + TIMEOUT_S)
            if process.returncode:
                raise Refusal(f"py-spy cannot sample {name}: {error.strip()[-300:]}; measure without --profile.")
            client_s, python_s = (
                now - before for now, before in zip(_threads_s(processes[name]), used_s[name], strict=True)
            )
            found[CLIENT] += client_s
            samples = samples_by_part(files[name].read_text().splitlines())
            for part, count in samples.items():
                found[part] += python_s * count / samples.total()
        return found


def samples_by_part(lines: Iterable[str]) -> Counter[str]:
    """Count samples by part, in py-spy's lines of ``frame;frame;frame count``, the outermost frame first."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        found[_part_of(reversed(stack.split(";")))] += int(count)
    return found


def _part_of(frames: Iterable[str]) -> str:
    for frame in frames:
        qualified, _, location = frame.partition(" (")
        function = next((name for name in reversed(qualified.split(".")) if not name.startswith("<")), "")
        for part, file, functions in PARTS:
            if file in location and (not functions or function.startswith(functions)):
                return part
    return OTHER


def _start(program: Path, pid: int, seconds: float, file: Path) -> subprocess.Popen[str]:
    command = [
        *(str(program), "record", "--pid", str(pid), "--duration", str(round(seconds)), "--rate", str(RATE_PER_S)),
        *("--gil", "--nonblocking", "--format", "raw", "--output", str(file)),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _threads_s(pid: int) -> tuple[float, float]:
    """Return the processor time of a process in the client library's threads, and in its other threads."""
    client_s = python_s = 0.0
    for thread in psutil.Process(pid).threads():
        try:
            name = Path(f"/proc/{pid}/task/{thread.id}/comm").read_text()
        except FileNotFoundError:
            continue  # it ended between the two
        if name.startswith(CLIENT_THREADS):
            client_s += thread.user_time + thread.system_time
        else:
            python_s += thread.user_time + thread.system_time
    return client_s, python_s
