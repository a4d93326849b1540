"""Runs the command line hundreds of times a minute: a server has it loaded, and forks a process for some cases.

Started as a script it is that server: cases are one line of JSON on its input, their results one line on its output. In
their process each case has its arguments, its environment and its file descriptors, and streams as Python makes them
from those. It must start no process: that ends it with STARTED.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import IO, Any, TextIO

CASE_TIMEOUT_S = 60
STARTED = 99
LIGHT = "light"
LOADED = (
    "typer.rich_utils", "baraza.audit.console", "baraza.bench.modes", "baraza.chaos.session", "baraza.demo.run",
    "baraza.storefront.replay", "proof.controls", "proof.running", "messages.generate",
)  # fmt: skip
UNFLUSHED = 120
"""Python's exit status where what is left in a stream cannot be written at the end."""
BUFFERED_BYTES = 8_192


class Stream(StrEnum):
    """What a file descriptor is."""

    FILE = "file"
    CLOSED = "closed"
    FULL = "full"
    """A device without space."""
    GONE = "gone"
    """A pipe whose other end is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call of the command line. ``encoding`` is that of the three streams, None that of the server's."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: Stream = Stream.FILE
    stdout: Stream = Stream.FILE
    stderr: Stream = Stream.FILE
    content: str = ""
    """What stdin holds, where it is a file."""
    encoding: str | None = "utf-8"
    folder: str | None = None
    """The working directory, which the process removes once it is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended; the status is negative where a signal ended it."""

    status: int
    stdout: str
    stderr: str


class CommandLine:
    """The server's other end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, case: Case) -> Ended:
        """Run one case."""
        return self.run_all([case])[0]

    def run_all(self, cases: Sequence[Case]) -> list[Ended]:
        """Run cases one after the other, in a process that they share until one of them ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([asdict(case) for case in cases]).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the server of the command line has ended"
        return [Ended(**each) for each in json.loads(line)]


@contextlib.contextmanager
def serving(variables: Mapping[str, str] | None = None) -> Iterator[CommandLine]:
    """Start a server, and end it when the block is left.

    With ``variables``, the whole environment of its interpreter, it loads little: it is for a few cases.
    """
    command = [sys.executable, "-P", __file__, *([] if variables is None else [LIGHT])]
    environment = None if variables is None else dict(variables)
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield CommandLine(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _serve(*, light: bool) -> None:
    encodings = (sys.stdin.encoding, sys.stdout.encoding, sys.stderr.encoding)
    if not light:
        _load()
    # What is loaded is not collected, and its pages stay shared with every process of a case.
    gc.collect()
    gc.freeze()
    for line in sys.stdin.buffer:
        cases = [Case(**each) for each in json.loads(line)]
        found: list[Ended] = []
        while len(found) < len(cases):
            found += _run(cases[len(found) :], encodings)
        sys.stdout.buffer.write(json.dumps([asdict(ended) for ended in found]).encode() + b"\n")
        sys.stdout.buffer.flush()


def _load() -> None:
    """Import what commands import when they run, so that a case does not pay for it."""
    for name in LOADED:
        importlib.import_module(name)
    from baraza.main import command
    from baraza.system.client import trust

    trust()
    command()


def _run(cases: Sequence[Case], encodings: tuple[str, str, str]) -> list[Ended]:
    """Run cases in one process, up to the first that ends it."""
    with contextlib.ExitStack() as files:
        content, out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            _be(cases, encodings, (content, out, err), writer)
        os.close(writer)
        killer = threading.Timer(CASE_TIMEOUT_S * len(cases), os.kill, (child, signal.SIGKILL))
        killer.start()
        with open(reader, "rb") as results:
            found = [Ended(**json.loads(line)) for line in results]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        killer.cancel()
        return found if len(found) == len(cases) else [*found, _ended(status, out, err)]


def _be(
    cases: Sequence[Case], encodings: tuple[str, str, str], files: tuple[IO[bytes], IO[bytes], IO[bytes]], writer: int
) -> None:
    """Be the process of these cases; this never returns."""
    from baraza import streams
    from baraza.system import running

    status = 1
    try:
        sys.addaudithook(_no_process)
        with open(writer, "wb") as results:
            for case in cases:
                for file in files:
                    file.seek(0)
                    file.truncate()
                os.chdir("/")
                streams._discarded.clear()
                running._homes.clear()
                ended = _ended(_status_of(case, encodings, files), *files[1:])
                results.write(json.dumps(asdict(ended)).encode() + b"\n")
                results.flush()
        status = 0
    except BaseException:  # any error of a case is its result, and the fork must never run on as the server
        os.write(files[2].fileno(), traceback.format_exc().encode())
    finally:
        os._exit(status)


def _status_of(case: Case, encodings: tuple[str, str, str], files: tuple[IO[bytes], IO[bytes], IO[bytes]]) -> int:
    """Run a case with its environment, its descriptors and its streams, and return its exit status."""
    content, out, err = files
    content.write(case.content.encode("utf-8", "surrogateescape"))
    content.seek(0)
    os.environ.clear()
    os.environ.update(case.environment)
    wanted = [_descriptor(case.stdin, content), _descriptor(case.stdout, out), _descriptor(case.stderr, err)]
    for number, descriptor in enumerate(wanted):
        if descriptor is None:
            with contextlib.suppress(OSError):  # closed by the case before
                os.close(number)
        else:
            os.dup2(descriptor, number)
    if case.folder is not None:
        os.chdir(case.folder)
        os.rmdir(case.folder)
    sys.stdin, sys.stdout, sys.stderr = (_stream(number, case.encoding or own) for number, own in enumerate(encodings))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc, assignment]
    sys.argv = ["baraza", *case.arguments]
    return _status()


def _ended(status: int, out: IO[bytes], err: IO[bytes]) -> Ended:
    for file in (out, err):
        file.seek(0)
    return Ended(status=status, stdout=out.read().decode(errors="replace"), stderr=err.read().decode(errors="replace"))


def _no_process(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec"):
        os._exit(STARTED)


def _descriptor(stream: Stream, file: IO[bytes]) -> int | None:
    if stream == Stream.CLOSED:
        return None
    if stream == Stream.FULL:
        return os.open("/dev/full", os.O_RDWR)
    if stream == Stream.GONE:
        other, end = os.pipe()
        os.close(other)
        return end
    return file.fileno()


def _stream(number: int, encoding: str) -> TextIO | Any:
    try:
        os.fstat(number)
    except OSError:
        return None
    mode, errors = ("r", "surrogateescape") if number == 0 else ("w", "strict" if number == 1 else "backslashreplace")
    return open(number, mode, encoding=encoding, errors=errors, closefd=False)


def _status() -> int:
    """Run the command line as the interpreter does, and return the exit status."""
    from baraza.main import main

    status = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # what the interpreter would print
        if sys.stderr is not None:
            traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            status = UNFLUSHED
    return status


if __name__ == "__main__":
    _serve(light=LIGHT in sys.argv)
