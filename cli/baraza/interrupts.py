"""What a signal does to a command: it ends it in order, so that what the command started is taken down with it."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

ENDED_BY_SIGNAL = 128
"""A shell's exit status for a process that a signal ended is this and the signal's number."""
INSISTENT = 3
"""So many interrupts end a command at once, whatever it leaves behind."""


def install() -> None:
    """Let SIGTERM and SIGHUP end the command as an interrupt does, and let it clean up undisturbed.

    An impatient second interrupt would else leave half of a stack running.
    """
    received = 0

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received not in (1, INSISTENT):
            # Not through the stream, which may be in the middle of another line.
            os.write(sys.stderr.fileno(), b"It is stopping already, and takes down what it started; a moment.\n")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(ENDED_BY_SIGNAL + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Who started us with a signal ignored (nohup) wants it ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
