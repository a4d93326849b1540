"""What a process keeps for good is left out of garbage collection.

Modules, schemas and statements are some 200,000 objects, and each full collection looks at them all to find nothing.
Frozen, they cost nothing; and a batch makes thousands of objects that die with it, so that looking for cycles after
every 700 of them is too soon. See https://docs.python.org/3/library/gc.html#gc.freeze.
"""

from __future__ import annotations

import gc

YOUNG_MAX = 50_000
"""New objects until the young are looked through: a large batch's worth."""
OLDER_EVERY = 20
OLD_EVERY = 50


def freeze() -> None:
    """Leave out of collection what is there now; call it once the process is made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, OLDER_EVERY, OLD_EVERY)
