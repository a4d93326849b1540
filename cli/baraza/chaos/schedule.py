"""Which faults come, in which order, on whom and for how long: a pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can happen to a stack."""

    KILL = "kill"  # SIGKILL to one to three of our processes
    PAUSE = "pause"  # SIGSTOP, and SIGCONT when others may long have taken over their partitions
    KAFKA = "kafka"  # killed, away for a while, started again
    POSTGRES = "postgres"  # an immediate shutdown, which leaves recovery to the start
    POSTGRES_TWICE = "postgres-twice"  # the same again while it recovers
    REDIS = "redis"  # gone for a while
    REGISTRY = "registry"  # gone for a while, in which a process must start
    DELAY = "delay"  # every answer on a side of the network comes late
    LOSS = "loss"  # connections of a side break or fall silent
    PARTITION = "partition"  # a side cannot reach something at all
    OUTBOX = "outbox"  # nothing can be published while commits go on
    DUPLICATES = "duplicates"  # stored messages come again
    REORDERED = "reordered"  # stored messages come again, in another order
    ROLLBACK = "rollback"  # a service runs as it was before its last change, for a while
    POISON = "poison"  # a message that nobody can read, under a saga's key


ESSENTIAL = (Kind.KILL, Kind.PAUSE, Kind.KAFKA, Kind.POSTGRES, Kind.PARTITION)
"""What even the shortest run has in it."""

LASTS_S = {
    Kind.PAUSE: (2.0, 15.0),  # shorter and longer than the session after which a group goes on without a member
    Kind.KAFKA: (1.0, 10.0),
    Kind.REDIS: (3.0, 15.0),
    Kind.REGISTRY: (3.0, 12.0),
    Kind.DELAY: (5.0, 15.0),
    Kind.LOSS: (5.0, 12.0),
    Kind.PARTITION: (3.0, 15.0),
    Kind.OUTBOX: (4.0, 12.0),
    Kind.ROLLBACK: (8.0, 20.0),
}
"""The least and the most; what is not here lasts as long as it takes."""

EARLY_SHARE = 0.25
EARLY_S = 3.0
"""So many faults come so soon after the one before that the stack is still recovering."""
PAUSE_S = (1.0, 5.0)
"""Between the recovery from one fault and the next."""
VICTIMS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. ``draw`` seeds whatever else it has to choose; ``wait_s`` comes before it."""

    number: int
    kind: Kind
    victims: tuple[str, ...]
    lasts_s: float
    is_early: bool
    wait_s: float
    draw: int


def faults(seed: int, kinds: Sequence[Kind], processes: Sequence[str]) -> Iterator[Fault]:
    """Yield faults without end, in rounds in each of which every kind comes once."""
    chance = random.Random(f"chaos {seed}")
    number = 0
    while True:
        for kind in chance.sample(kinds, len(kinds)):
            number += 1
            least, most = LASTS_S.get(kind, (0.0, 0.0))
            is_early = chance.random() < EARLY_SHARE
            yield Fault(
                number=number,
                kind=kind,
                victims=tuple(chance.sample(processes, chance.randint(1, VICTIMS_MAX))),
                lasts_s=round(chance.uniform(least, most), 1),
                is_early=is_early,
                wait_s=EARLY_S if is_early else round(chance.uniform(*PAUSE_S), 1),
                draw=chance.getrandbits(32),
            )
