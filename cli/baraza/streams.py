"""The three standard streams of a command, whatever the caller has left of them.

A closed descriptor is filled first, because the next file that is opened would become the command's output. Text that
the encoding of a stream lacks is written as escapes. Output without a reader is discarded, so that a command
ends with its own exit status; only commands without an end look at :func:`is_read`. Output that cannot be written is an
error.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from baraza.terminal import Refusal

STDIN, STDOUT, STDERR = range(3)
UTF_8 = "utf-8"

_discarded: set[int] = set()
"""The descriptors that now lead nowhere."""


class Unwritable(Refusal):
    """The output cannot be written: its device is full, or it was closed before the command began."""


class _Output(io.FileIO):
    """Standard output without a buffer."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content) or 0
        except BrokenPipeError:
            _discard(self.fileno())
        except OSError as error:
            _discard(self.fileno())
            raise Unwritable(f"The output cannot be written: {(error.strerror or 'unknown error').lower()}.") from error
        return len(content)


class _Messages(io.FileIO):
    """Standard error without a buffer. A message that cannot be written has no other way to the person."""

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content) or 0
        except OSError:
            _discard(self.fileno())
            return len(content)


def install() -> None:
    """Replace the streams of this process."""
    for number, flags in ((STDIN, os.O_RDONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        _fill(number, flags)
    # A read-only descriptor refuses what is written to it, as the closed one would have.
    output = _text(_Output(STDOUT, "w", closefd=False), sys.stdout, in_lines=os.isatty(STDOUT))
    messages = _text(_Messages(STDERR, "w", closefd=False), sys.stderr, in_lines=True)
    sys.stdin = sys.stdin or open(STDIN, encoding=UTF_8, closefd=False)  # noqa: SIM115 - it lives as long as the process
    sys.stdout, sys.stderr = output, messages


def is_read() -> bool:
    """Return whether the output may still have a reader."""
    return STDOUT not in _discarded


def _fill(number: int, flags: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, flags)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)


def _text(raw: io.FileIO, before: Any, *, in_lines: bool) -> io.TextIOWrapper:
    """Return the stream; ``in_lines`` writes each line at once, so that who follows a log of messages sees it."""
    encoding = getattr(before, "encoding", None) or UTF_8
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=in_lines
    )


def _discard(number: int) -> None:
    _discarded.add(number)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
