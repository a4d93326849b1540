"""Delays every lookup of a name in the processes that chaos starts with this folder on their path.

How long is read at each lookup from the file that BARAZA_CHAOS_LOOKUPS names; without the file there is no delay.
"""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_look_up = socket.getaddrinfo


def _look_up_late(*arguments: Any, **options: Any) -> Any:
    with suppress(OSError, KeyError, ValueError):
        time.sleep(float(Path(os.environ["BARAZA_CHAOS_LOOKUPS"]).read_text()))
    return _look_up(*arguments, **options)


socket.getaddrinfo = _look_up_late
