"""Excludes from garbage collection what a process keeps for its whole life.

Modules, schemas and statements are some 200,000 objects, and each full collection visits them all to find nothing.
Frozen, they cost nothing. A batch makes thousands of objects that die with it, so a search for cycles after every 700
of them is too frequent. See https://docs.python.org/3/library/gc.html#gc.freeze.
"""

from __future__ import annotations

import gc

YOUNG_MAX = 50_000
"""New objects until the youngest generation is collected: as many as a large batch makes."""
OLDER_EVERY = 20
OLD_EVERY = 50


def freeze() -> None:
    """Exclude the present objects from collection; call it once the process is built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, OLDER_EVERY, OLD_EVERY)
