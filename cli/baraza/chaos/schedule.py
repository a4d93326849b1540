"""The schedule of faults: their kinds, order, victims and durations. A pure function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of fault."""

    KILL = "kill"  # SIGKILL to one to three of our processes
    PAUSE = "pause"  # SIGSTOP, and SIGCONT when others may have taken over their partitions
    KAFKA = "kafka"  # killed, stopped for a while, started again
    POSTGRES = "postgres"  # an immediate shutdown, which leaves recovery to the start
    POSTGRES_TWICE = "postgres-twice"  # the same again while it recovers
    REDIS = "redis"  # stopped for a while
    REGISTRY = "registry"  # stopped for a while, while a process must start
    DELAY = "delay"  # every response on a side of the network is delayed
    LOSS = "loss"  # connections of a side are reset or fall silent
    PARTITION = "partition"  # a side cannot reach a dependency at all
    VANISHED = "vanished"  # a node is gone in mid-transaction: every packet of a side is dropped
    SLOW_COMMIT = "slow-commit"  # each commit takes seconds
    SLOW_LOOKUP = "slow-lookup"  # each lookup of a provider's name takes seconds
    OUTBOX = "outbox"  # nothing can be published while commits go on
    DUPLICATES = "duplicates"  # stored messages are published again
    REORDERED = "reordered"  # stored messages are published again, in another order
    ROLLBACK = "rollback"  # a service runs its previous version for a while
    POISON = "poison"  # an unprocessable message, under a saga's key
    KAFKA_OUTAGE = "kafka-outage"  # Kafka is away for minutes
    POSTGRES_OUTAGE = "postgres-outage"  # PostgreSQL is away for minutes
    SERVICE_OUTAGE = "service-outage"  # every process of a service, or of the tracker, is away for minutes
    LOST_CALLBACKS = "lost-callbacks"  # the courier's webhooks are lost for minutes, and some come twice or late
    LOST_WEBHOOKS = "lost-webhooks"  # the same at the gateways of payments; one of them has no query
    LATE_GATEWAY = "late-gateway"  # these gateways answer late, or not at all, after they have acted
    LOST_RESULTS = "lost-results"  # the callbacks of mobile money are lost for minutes, or come several times or late
    PROVIDER_AWAY = "provider-away"  # the provider of mobile money is away for minutes
    LISTENER_AWAY = "listener-away"  # our listener is away while members pay in, for longer than the pull goes back
    KILL_IN_CALLS = "kill-in-calls"  # every process of mobile money is killed while its calls have no answer yet


OUTAGES = (Kind.KAFKA_OUTAGE, Kind.POSTGRES_OUTAGE, Kind.SERVICE_OUTAGE)
"""The kinds in which what sagas need is away for longer than a saga may take while everything is there."""

OF_ORDERS = (Kind.LOST_CALLBACKS, Kind.SLOW_LOOKUP, Kind.VANISHED)
"""The kinds that only orders meet, or that are judged by them."""

OF_PAYMENTS = (Kind.LOST_WEBHOOKS, Kind.LATE_GATEWAY)
"""The kinds that only merchants' payments meet."""

OF_SACCO = (Kind.LOST_RESULTS, Kind.PROVIDER_AWAY, Kind.LISTENER_AWAY, Kind.KILL_IN_CALLS)
"""The kinds that only the money of a SACCO's members meets."""

LONG = (
    *OUTAGES, Kind.LOST_CALLBACKS, Kind.LOST_WEBHOOKS, Kind.LOST_RESULTS, Kind.PROVIDER_AWAY, Kind.LISTENER_AWAY,
)  # fmt: skip
"""The kinds that last as long as the run's outages."""

ESSENTIAL = (Kind.KILL, Kind.PAUSE, Kind.KAFKA, Kind.POSTGRES, Kind.PARTITION)
"""The kinds that even the shortest run contains."""

LASTS_S = {
    Kind.PAUSE: (2.0, 15.0),  # shorter and longer than a consumer group's session timeout
    Kind.KAFKA: (1.0, 10.0),
    Kind.REDIS: (3.0, 15.0),
    Kind.REGISTRY: (3.0, 12.0),
    Kind.DELAY: (5.0, 15.0),
    Kind.LOSS: (5.0, 12.0),
    Kind.PARTITION: (3.0, 15.0),
    Kind.VANISHED: (45.0, 60.0),  # longer than the locks of a node that is gone are kept, and the rest of an order
    Kind.SLOW_COMMIT: (10.0, 20.0),
    Kind.SLOW_LOOKUP: (5.0, 15.0),
    Kind.OUTBOX: (4.0, 12.0),
    Kind.ROLLBACK: (8.0, 20.0),
    Kind.LATE_GATEWAY: (10.0, 20.0),  # longer than the step of a payment waits before it is sent again
}
"""The shortest and the longest; a kind that is not listed lasts until its victim runs again."""

EARLY_SHARE = 0.25
EARLY_S = 3.0
"""This share of the faults comes this soon after the one before, while the stack is still recovering."""
PAUSE_S = (1.0, 5.0)
"""Between the recovery from one fault and the next."""
VICTIMS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. ``draw`` seeds its other choices; ``wait_s`` is the pause before it."""

    number: int
    kind: Kind
    victims: tuple[str, ...]
    lasts_s: float
    is_early: bool
    wait_s: float
    draw: int


def faults(seed: int, kinds: Sequence[Kind], processes: Sequence[str], *, outage_s: float) -> Iterator[Fault]:
    """Yield faults without end, in rounds that contain every kind once. Those of LONG last ``outage_s``."""
    chance = random.Random(f"chaos {seed}")
    number = 0
    while True:
        for kind in chance.sample(kinds, len(kinds)):
            number += 1
            least, most = (outage_s, outage_s) if kind in LONG else LASTS_S.get(kind, (0.0, 0.0))
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
