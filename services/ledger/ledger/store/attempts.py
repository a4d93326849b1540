"""Repeats a batch that met another one: a deadlock, a serialization failure, or the same key written at once.

A repeated batch reads what the other has committed, and then decides. None of these is ever reported as a refusal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from chassis.postgres.transient import TransientRetry
from ledger.model.transfers import Outcome, Transfer
from ledger.store.booking import book

SHARED_KEYS = frozenset({"transfers_reference", "transfers_resolved", "payments_pkey", "accounts_path"})
"""Keys that two batches may write at once; the second finds the row when it is repeated."""
COLLISIONS_MAX = 20
"""A batch that meets others more often than this has a defect, which must show."""


class Ledger:
    """Books batches, each in a transaction of its own, as often as it takes."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime], stopping: threading.Event) -> None:
        self._engine = engine
        self._clock = clock
        self._retry = TransientRetry(stopping)

    def book(self, transfers: Sequence[Transfer]) -> list[Outcome]:
        """Book a batch and commit it. Raises what is neither transient nor a collision."""
        for _ in range(COLLISIONS_MAX):
            try:
                return self._retry.transact(self._engine, lambda tx: book(transfers, tx, now=self._clock()))
            except IntegrityError as error:
                if not is_collision(error):
                    raise
                collision = error
        raise collision


def is_collision(error: IntegrityError) -> bool:
    """Return whether another batch wrote the same key at the same time."""
    diagnosis = getattr(error.orig, "diag", None)
    return diagnosis is not None and diagnosis.constraint_name in SHARED_KEYS
