"""Runs the command line hundreds of times a minute: a server has it loaded, and forks a process for each case.

Started as a script it is that server: a case is one line of JSON on its input, a result one line on its output. The
process of a case has the arguments, the environment and the file descriptors of the case, and streams as Python makes
them from those. It must start no process: that ends it with STARTED.
"""

from __future__ import annotations

import contextlib
import gc
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
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(case)).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the server of the command line has ended"
        return Ended(**json.loads(line))


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
        case = Case(**json.loads(line))
        sys.stdout.buffer.write(json.dumps(asdict(_run(case, encodings))).encode() + b"\n")
        sys.stdout.buffer.flush()


def _load() -> None:
    """Import what commands import when they run, so that a case does not pay for it."""
    import typer.rich_utils

    import baraza.audit.console
    import baraza.bench.modes
    import baraza.chaos.session
    import baraza.demo.run
    import baraza.main
    import baraza.storefront.replay
    import baraza.system.client

    baraza.system.client.trust()
    assert typer.rich_utils.rich_format_error is not None
    baraza.main.command()


def _run(case: Case, encodings: tuple[str, str, str]) -> Ended:
    with contextlib.ExitStack() as files:
        content, out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        content.write(case.content.encode("utf-8", "surrogateescape"))
        content.seek(0)
        child = os.fork()
        if not child:
            _be(case, encodings, content, out, err)
        killer = threading.Timer(CASE_TIMEOUT_S, os.kill, (child, signal.SIGKILL))
        killer.start()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        killer.cancel()
        for file in (out, err):
            file.seek(0)
        return Ended(
            status=status, stdout=out.read().decode(errors="replace"), stderr=err.read().decode(errors="replace")
        )


def _be(case: Case, encodings: tuple[str, str, str], content: IO[bytes], out: IO[bytes], err: IO[bytes]) -> None:
    """Be the process of a case; this never returns."""
    status = 1
    try:
        os.environ.clear()
        os.environ.update(case.environment)
        wanted = [_descriptor(case.stdin, content), _descriptor(case.stdout, out), _descriptor(case.stderr, err)]
        for number, descriptor in enumerate(wanted):
            if descriptor is None:
                os.close(number)
            else:
                os.dup2(descriptor, number)
        if case.folder is not None:
            os.chdir(case.folder)
            os.rmdir(case.folder)
        sys.stdin, sys.stdout, sys.stderr = (
            _stream(number, case.encoding or own) for number, own in enumerate(encodings)
        )
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc, assignment]
        sys.argv = ["baraza", *case.arguments]
        sys.addaudithook(_no_process)
        status = _status()
    except BaseException:  # any error of a case is its result, and the fork must never run on as the server
        os.write(err.fileno(), traceback.format_exc().encode())
    finally:
        os._exit(status)


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
