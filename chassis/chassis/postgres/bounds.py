"""How long a connection to PostgreSQL may wait, hold its locks, or stand still without an answer.

Without bounds a node that vanishes in mid-transaction keeps its row locks for two hours, until the kernel's default
keepalive finds it gone; every other replica hangs on those locks meanwhile. Each side has its own: the server ends the
transaction of a client that is gone, the client closes a connection to a server that is gone. What exceeds a bound
fails with an error that :mod:`chassis.postgres.transient` repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONNECT_TIMEOUT_S = 5
"""A connection and its login take milliseconds. A longer wait means that the host is down."""

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 5, 5, 3
"""A peer whose host has vanished is noticed within 20 s on a connection on which nothing is sent."""

UNACKNOWLEDGED_S = 15
"""A peer whose host has vanished is noticed this long after something was sent to it: TCP_USER_TIMEOUT."""

SERVER_PARAMETERS: Mapping[str, str] = {
    "tcp_keepalives_idle": f"{KEEPALIVE_IDLE_S}s",
    "tcp_keepalives_interval": f"{KEEPALIVE_INTERVAL_S}s",
    "tcp_keepalives_count": str(KEEPALIVE_COUNT),
    "tcp_user_timeout": f"{UNACKNOWLEDGED_S}s",
    "client_connection_check_interval": "5s",
    "idle_in_transaction_session_timeout": "5min",
}
"""The server's own parameters, for every client: peers that have vanished, clients that have gone during a statement,
and a person's session that was left open in a transaction. A stack, Compose and the manifests all set them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of one kind of client, in seconds; 0 means none.

    ``lock_s`` limits the wait for a lock, ``statement_s`` each statement, ``idle_s`` the time between two statements of
    a transaction, ``transaction_s`` a transaction up to its commit. Only the last one ends the transaction of a client
    that vanished while it sent: PostgreSQL does not count it as idle then.
    ``answer_s`` is how long the client waits for the answer to what it has sent in a pipeline.
    """

    lock_s: int
    statement_s: int
    idle_s: int
    transaction_s: int
    answer_s: int = 0

    @property
    def options(self) -> str:
        """The server's part, as libpq's ``options``: it holds from the login on, whatever the client does later."""
        parameters = {
            "lock_timeout": self.lock_s,
            "statement_timeout": self.statement_s,
            "idle_in_transaction_session_timeout": self.idle_s,
            "transaction_timeout": self.transaction_s,
        }
        return " ".join(f"-c {name}={value}s" for name, value in parameters.items())

    @property
    def arguments(self) -> dict[str, Any]:
        """Both parts, as arguments of a connection."""
        return {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives": 1,
            "keepalives_idle": KEEPALIVE_IDLE_S,
            "keepalives_interval": KEEPALIVE_INTERVAL_S,
            "keepalives_count": KEEPALIVE_COUNT,
            "tcp_user_timeout": UNACKNOWLEDGED_S * 1000,
            "options": self.options,
        }


SERVING = Bounds(lock_s=10, statement_s=15, idle_s=10, transaction_s=20, answer_s=25)
"""Services and the tracker's worker. A batch takes well under a second. The locks of a process that has vanished, or
stands still, are free after 20 s at most, and a neighbour that waits for them goes on within 30 s. A commit itself has
no limit on the server: it is as slow as the disk. The client closes a connection without any answer after 25 s,
before its worker counts as hanging (30 s). What was committed all the same is found when the transaction is repeated.
"""

QUERYING = Bounds(lock_s=5, statement_s=10, idle_s=60, transaction_s=120, answer_s=25)
"""The tracker's API. A list that takes longer than 10 s has too wide a selection, and would take the place of others. A
plan of 50,000 sagas is decided within one snapshot, which takes a minute, in short statements and locks on nothing that
a worker needs."""

MIGRATING = Bounds(lock_s=20, statement_s=3_600, idle_s=300, transaction_s=0)
"""Migrations, deployment and other work on whole tables. A statement that waits for a table's lock stops all who come
after it, so it waits no longer than the longest transaction of a service; where it fails, run it again. Building an
index or copying a table may take long."""

AUDITING = Bounds(lock_s=20, statement_s=900, idle_s=300, transaction_s=7_200)
"""The audit only reads, but whole tables, in one snapshot of each database, and computes while it does."""
