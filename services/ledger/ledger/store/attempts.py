"""Repeats a batch that met another one: a deadlock, a serialization failure, or the same key written at once.

A repeated batch reads what the other has committed, and then decides. None of these is ever reported as a refusal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Engine

from chassis.postgres.transient import TransientRetry
from ledger.model.transfers import Outcome, Transfer
from ledger.store.booking import book


class Ledger:
    """Books batches, each in a transaction of its own, as often as it takes."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime], stopping: threading.Event) -> None:
        self._engine = engine
        self._clock = clock
        self._retry = TransientRetry(stopping)

    def book(self, transfers: Sequence[Transfer]) -> list[Outcome]:
        """Book a batch and commit it. Raises what is not transient."""
        return self._retry.transact(self._engine, lambda tx: book(transfers, tx, now=self._clock()))
