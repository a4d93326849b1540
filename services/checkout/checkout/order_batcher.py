"""Batches concurrent orders: one thread stores all waiting orders in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

from sqlalchemy import Engine

from chassis.process.request_batcher import NO_DATABASE, RequestBatcher
from chassis.saga import outbox
from chassis.saga.publisher import OutboxPublisher
from checkout import intake
from checkout.intake import Acceptance, Outcome, Submission, Terms
from checkout.response_cache import ResponseCache
from checkout.tables import Key, StoredResponse

Result: TypeAlias = Outcome | Exception


class OrderBatcher(RequestBatcher[Submission, Acceptance]):
    """Stores orders for the API."""

    def __init__(
        self, engine: Engine, terms: Terms, publisher: OutboxPublisher, cache: ResponseCache, *, gather_s: float
    ) -> None:
        super().__init__(engine, publisher, gather_s=gather_s, what="order")
        self._terms = terms
        self._cache = cache

    def stop(self) -> None:
        """Store the waiting orders, publish them and end. Blocks for a few seconds at most."""
        super().stop()
        self._cache.close()

    def store(
        self, submissions: Sequence[Submission], known: Mapping[Key, StoredResponse] | None = None
    ) -> list[Result]:
        """Store orders with retries; ``known`` are the cached responses where they were read already."""
        return self.store_with(partial(self.submit_batch, known=known), submissions)

    def submit_batch(
        self, submissions: Sequence[Submission], known: Mapping[Key, StoredResponse] | None = None
    ) -> list[Outcome]:
        """Store these orders in one transaction and return their outcomes, in the same order.

        ``known`` are the cached responses where they were read already.

        1. Submissions whose response is cached need no transaction.
        2. One transaction stores the rest and deletes the outbox rows that were delivered meanwhile.
        3. After the commit the rows are published or gathered for that, and the responses cached.
        """
        # 1.
        if known is None:
            known = self._cache.get([each.key for each in submissions])
        outcomes = intake.cached(submissions, known)
        rest = [each for each, outcome in zip(submissions, outcomes, strict=True) if outcome is None]
        if not rest:
            return [outcome for outcome in outcomes if outcome is not None]
        # 2.
        called = self._breaker.call(*NO_DATABASE, always=True)
        with called, self._publisher.removal() as delivered, self._engine.begin() as tx:
            outbox.remove(tx, delivered)
            result = intake.accept(tx, rest, self._terms, new_order_id=self._cohorts.new_id, now=datetime.now(UTC))
        # 3.
        self.publish(result.rows)
        self._cache.put(result.responses)
        stored = iter(result.outcomes)
        return [next(stored) if outcome is None else outcome for outcome in outcomes]
