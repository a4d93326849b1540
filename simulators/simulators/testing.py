"""Runs simulators as processes that can be killed, for tests and for trials by hand."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import urllib3

START_S_MAX = 60.0
"""A cold start takes half a second; a loaded machine gets as long as anything else."""

POLL_S = 0.02
STOP_S_MAX = 10.0


PORT_FIRST, PORT_LAST = 15_000, 32_000
"""Below the range of Linux for outgoing connections, so that none of them takes a port before it is used."""


def free_port() -> int:
    """Return a loopback port that is free now."""
    while True:
        port = random.randint(PORT_FIRST, PORT_LAST)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class SimulatorProcess:
    """``python -m simulators.<name>`` on its own port.

    ``environment`` holds its settings besides the port; it inherits no setting of the calling process.
    """

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BARAZA_")}
        self._environment = {**inherited, **environment, "BARAZA_HTTP_PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and return when it is ready. Raises RuntimeError where it ends, TimeoutError."""
        self._process = subprocess.Popen([sys.executable, "-m", f"simulators.{self.name}"], env=self._environment)
        deadline = time.monotonic() + START_S_MAX
        while not self._ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self._process.returncode}. See its output.")
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{self.name} was not ready at {self.url} after {START_S_MAX} s.")
            time.sleep(POLL_S)

    def _ready(self) -> bool:
        try:
            return urllib3.request("GET", f"{self.url}/readyz", retries=False, timeout=1.0).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it gracefully."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(STOP_S_MAX)


@contextmanager
def running(name: str, environment: Mapping[str, str]) -> Iterator[SimulatorProcess]:
    """Run a simulator for the duration of the block; it may be killed and started again inside."""
    process = SimulatorProcess(name, environment)
    try:
        process.start()
        yield process
    finally:
        process.kill()
