"""``python -m baraza``, which ``./baraza`` runs: an interrupt ends the process while it still imports its modules."""

from __future__ import annotations

import signal
from typing import NoReturn


def run() -> NoReturn:
    """Run one command. Python's own handler would end an interrupted import with a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from baraza.main import main

    main()


if __name__ == "__main__":
    run()
