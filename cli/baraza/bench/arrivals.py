"""When the orders of a fixed rate are due. Pure, and cheap to import."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import StrEnum
from itertools import count

TICK_S = 0.02
"""Even arrivals come in beats this far apart. A window of the same length follows or misses them."""


class Arrivals(StrEnum):
    """How the orders of a fixed rate are spread over time."""

    POISSON = "poisson"
    EVEN = "even"


def arrival_times_s(arrivals: Arrivals, *, per_second: float, began_at_s: float, seed: int = 1) -> Iterator[float]:
    """Yield when each order is due: by a Poisson process, as independent customers come, or in even beats of TICK_S."""
    if arrivals is Arrivals.POISSON:
        chance = random.Random(seed)
        at_s = began_at_s
        while True:
            at_s += chance.expovariate(per_second)
            yield at_s
    for tick in count(1):
        for _ in range(int(tick * TICK_S * per_second) - int((tick - 1) * TICK_S * per_second)):
            yield began_at_s + tick * TICK_S
