"""How much time a transaction that plans a call gets until its commit, by how long the last ones took. Pure.

The deadline of a call is stored before its transaction commits, and the call begins after the commit. A deadline that
allowed for too little would lie so near by then that the call could not be begun.
"""

from __future__ import annotations

from datetime import timedelta

from chassis.saga.steps import COMMIT_ALLOWANCE

ALLOWANCE_MAX = timedelta(seconds=15)
"""The more is allowed, the later a fence may query the provider about a call without a result."""
FACTOR = 2
"""The next transaction may take twice as long as the longest one so far."""
DECAY = 0.9
"""How much of the longest duration is kept after a shorter one: some twenty fast transactions end a slow phase."""


class CommitAllowance:
    """The allowance of one process, which observes its own transactions."""

    def __init__(self) -> None:
        self._longest = timedelta(0)

    @property
    def present(self) -> timedelta:
        """The time from the beginning of the next transaction to its commit for which its calls' deadlines allow."""
        return min(max(COMMIT_ALLOWANCE, self._longest * FACTOR), ALLOWANCE_MAX)

    def took(self, duration: timedelta) -> None:
        """Observe how long a transaction took, its commit included."""
        self._longest = max(duration, self._longest * DECAY)
