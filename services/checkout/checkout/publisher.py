"""Sends what the API's transactions wrote into the outbox: at once after the commit, or later what was left over.

Rows of the API carry no partition (the producer chooses by key), so the worker's own sweep passes them over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog
from chassis.saga import outbox
from chassis.saga.outbox import NotPublished, OutboxRow, Relay
from sqlalchemy import Engine

IN_FLIGHT_MAX = 50_000
"""While Kafka is away, rows beyond this stay in the outbox, where they take no memory; the sweep sends them later."""
LEFTOVER_AGE = timedelta(seconds=30)
"""Older rows that this process has not under way were left by one that is gone, or by a Kafka that was away."""
START_AGE = timedelta(seconds=1)
"""At the start what a killed predecessor left is sent soon; younger rows are another replica's, on their way."""
FLUSH_WITHIN_S = 2.0

log = structlog.get_logger(__name__)


class Publisher:
    """A relay that the API's threads share."""

    def __init__(self, engine: Engine, new_relay: Callable[[], Relay]) -> None:
        self._engine = engine
        self._new_relay = new_relay
        self._relay = new_relay()
        self._using = threading.Lock()

    @property
    def partition_count(self) -> int:
        """How many partitions there are, by what Kafka acknowledged so far."""
        return self._relay.partition_count

    def publish(self, rows: Sequence[OutboxRow]) -> None:
        """Hand committed rows to Kafka, without waiting for it."""
        with self._using:
            try:
                if self._relay.in_flight_count < IN_FLIGHT_MAX:
                    self._relay.publish(rows)
                else:
                    self._relay.poll()
            except NotPublished as error:
                log.error("Kafka refused messages; the sweep sends them again with a new producer.", error=str(error))
                self._relay = self._new_relay()

    def take_delivered(self, *, at_once: bool = False) -> list[str]:
        """Return the ids of delivered rows, to be removed in a transaction; give them back if that fails."""
        with self._using:
            return self._relay.take_delivered(at_once=at_once)

    def removed(self, ids: Sequence[str]) -> None:
        """The removal of these rows was committed."""
        with self._using:
            self._relay.forget(ids)

    def give_back(self, ids: Sequence[str]) -> None:
        """The removal of these rows was not committed."""
        with self._using:
            self._relay.give_back(ids)

    def tidy(self, *, at_once: bool = False) -> None:
        """Remove what was delivered, in a transaction of its own."""
        self.publish(())
        delivered = self.take_delivered(at_once=at_once)
        if not delivered:
            return
        try:
            with self._engine.begin() as tx:
                outbox.remove(tx, delivered)
        except BaseException:
            self.give_back(delivered)
            raise
        self.removed(delivered)

    def sweep(self, age: timedelta = LEFTOVER_AGE) -> None:
        """Publish rows that were left over; those on their way from here are passed over."""
        with self._engine.begin() as tx:
            rows = outbox.leftovers(tx, None, age=age)
        self.publish(rows)

    def flush(self) -> None:
        """Wait a little for Kafka, then remove what it took; the rest stays in the outbox for the next process."""
        with self._using:
            try:
                self._relay.flush(FLUSH_WITHIN_S)
            except NotPublished as error:
                log.error("Kafka refused messages; they stay in the outbox.", error=str(error))
                return
        self.tidy(at_once=True)
