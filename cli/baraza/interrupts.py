"""What a signal does to a command: it ends in order, so that what the command started is taken down with it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

STDERR = 2
ENDED_BY_SIGNAL = 128
"""A shell's exit status for a process that a signal ended is this and the signal's number."""
INTERRUPTS_MAX = 3
"""This many interrupts end a command at once, whatever it leaves running."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def install() -> None:
    """Let SIGTERM and SIGHUP end the command as an interrupt does, and let its cleanup run undisturbed.

    An impatient second interrupt would otherwise leave half of a stack running.
    """
    received = 0

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received >= INTERRUPTS_MAX:
            os._exit(ENDED_BY_SIGNAL + number)
        if received > 1:
            # Not through the stream, which may be in the middle of another line.
            with suppress(OSError):
                os.write(STDERR, b"Already stopping; taking down what it started. Please wait.\n")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(ENDED_BY_SIGNAL + number)

    for number in SIGNALS:
        # A parent that started us with a signal ignored (nohup) wants it ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def uninstall() -> None:
    """Let a signal end the process at once: nothing is left to clean up, and an exception would only be printed."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
