"""Ports on loopback: chosen once, then kept in ``stack.json``, so that addresses outlive a restart."""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Iterable, Mapping

import psutil

from stack.errors import InvalidSettings, PermissionMissing, PortTaken
from stack.settings import port_variable
from stack.waiting import POLL_S

LOOPBACK = "127.0.0.1"
FIRST, LAST = 15_000, 32_000
"""Below the range of Linux for outgoing connections, so that none of them can use a kept port."""
ATTEMPTS_MAX = 1_000
RELEASE_S = 10
"""A killed process keeps its ports until the kernel has freed its memory: 0.13 s for 800 MB where nothing else runs."""


def choose(names: Iterable[str], kept: Mapping[str, int], fixed: Mapping[str, int]) -> dict[str, int]:
    """Return a port for each name: the fixed one, else the kept one, else a free one.

    Raises InvalidSettings where two components have the same port.
    """
    ports = dict(kept)
    for name in names:
        if name in fixed:
            ports[name] = fixed[name]
        elif name not in ports:
            ports[name] = _free(set(ports.values()) | set(fixed.values()))
    by_port: dict[int, str] = {}
    for name, port in ports.items():
        if (other := by_port.setdefault(port, name)) != name:
            raise InvalidSettings(f"Port {port} is meant for both {other} and {name}; change {port_variable(name)}.")
    return ports


def check(ports: Mapping[str, int]) -> None:
    """Raise PortTaken where another process listens on one of them, at once where that one can be named.

    One that cannot may be ending already, and is waited for up to RELEASE_S.
    """
    deadline = time.monotonic() + RELEASE_S
    for name, port in ports.items():
        while not is_free(port):
            holder = _holder(port)
            if holder or time.monotonic() > deadline:
                raise PortTaken(
                    f"Port {port}, kept for {name}, is used by {holder or 'another process'}; "
                    f"stop that, or choose another port with {port_variable(name)}=PORT."
                )
            time.sleep(POLL_S)


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now. A port with closing connections only counts as free."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise PermissionMissing(f"Cannot listen on {LOOPBACK}:{port} ({error.strerror}).") from error
    return True


def _free(taken: set[int]) -> int:
    for _ in range(ATTEMPTS_MAX):
        port = random.randint(FIRST, LAST)
        if port not in taken and is_free(port):
            return port
    raise PortTaken(f"No free port between {FIRST} and {LAST}; stop some processes, or fix ports with BARAZA_PORT_….")


def _holder(port: int) -> str | None:
    """Return the living process that uses the port; None for one that is ending, or that another user owns."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                if process.cmdline():  # a process that is ending has no memory, and so no command line, any more
                    return f"{process.name()} (pid {process.pid})"
            except psutil.Error:
                continue
    return None
