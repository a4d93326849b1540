"""Faults in which something stands still: a node's packets, the disk of PostgreSQL, the lookup of a provider's name."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from baraza.chaos import network
from baraza.chaos.lookup import lookup_file
from baraza.chaos.schedule import Fault
from baraza.chaos.target import ChaosTarget
from chassis.http.timed_connections import ADDRESS_TTL_S
from stack import postgres
from stack.providers import PROVIDERS
from stack.toxiproxy import SIDES

Sleep = Callable[[float], None]

COMMIT_S = (1.5, 6.0)
"""From what a busy disk takes to twice a call's whole time."""
BETWEEN_COMMITS_S = 0.2
LOOKUP_S = (1.0, 8.0)
"""From just within a call's time to what a resolver takes whose first name server is away."""


def vanish(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    """Drop every packet of one side: a node has vanished in mid-transaction. The other side must go on meanwhile."""
    side, began_at = chance.choice(SIDES), datetime.now(UTC)
    for proxy in target.proxies([side]):
        target.network.add(proxy, network.silence())
        target.network.add(proxy, network.silence(stream="upstream"))
    sleep(fault.lasts_s)
    confirmed_at = target.confirmed_again_at(began_at, 1)
    target.network.heal()
    what = f"side {side} vanished for {fault.lasts_s} s"
    if confirmed_at is None:
        target.violations.append(f"fault {fault.number} ({what}): no new order was confirmed meanwhile")
        return f"{what}; nothing went on"
    return f"{what}; the other side went on after {(confirmed_at - began_at).total_seconds():.1f} s"


def commit_slowly(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    """Let every commit wait for some seconds, in all databases, one time after the other.

    PostgreSQL waits for a standby that does not exist, with all locks held, as it would for its disk.
    """
    end_s, longest_s = time.monotonic() + fault.lasts_s, 0.0
    while time.monotonic() < end_s:
        takes_s = chance.uniform(*COMMIT_S)
        longest_s = max(longest_s, takes_s)
        with _commits_waiting(target):
            sleep(takes_s)
        sleep(BETWEEN_COMMITS_S)
    return f"commits took up to {longest_s:.1f} s for {fault.lasts_s} s"


@contextmanager
def _commits_waiting(target: ChaosTarget) -> Iterator[None]:
    try:
        _set_standby(target, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        yield
    finally:
        _set_standby(target, "ALTER SYSTEM RESET synchronous_standby_names")


def _set_standby(target: ChaosTarget, statement: str) -> None:
    port = int(target.stack.endpoints.postgres_port)
    with closing(postgres.connect(port, target.stack.password(postgres.SUPERUSER))) as server:
        server.execute(statement.encode())
        server.execute("SELECT pg_reload_conf()")


def look_up_slowly(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    """Close the connections to the providers, and let each lookup of their names take some seconds."""
    file = lookup_file(target.stack.home)
    lookup_s = round(chance.uniform(*LOOKUP_S), 1)
    try:
        file.write_text(str(lookup_s))
        sleep(ADDRESS_TTL_S)
        for proxy in target.proxies(SIDES, PROVIDERS):
            target.network.cut(proxy)
        target.network.heal()
        sleep(fault.lasts_s)
    finally:
        file.unlink(missing_ok=True)
    return f"the lookup of a provider's name took {lookup_s} s for {fault.lasts_s} s"
