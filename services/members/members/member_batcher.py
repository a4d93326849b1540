"""Batches what members request at the same time: one thread stores all that wait in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Engine

from chassis.http.problem import Problem
from chassis.postgres.transient import utc_now
from chassis.process.request_batcher import NO_DATABASE, RequestBatcher
from chassis.saga import outbox
from chassis.saga.publisher import OutboxPublisher
from chassis.wire.codec import Codec
from members import intake
from members.intake import Accepted, Submission

WHAT: Final = "request"


class RequestsOfMembers(RequestBatcher[Submission, Accepted]):
    """Stores collections, withdrawals and repayments for the API, and publishes what begins their sagas."""

    def __init__(self, engine: Engine, codec: Codec, publisher: OutboxPublisher, *, gather_s: float) -> None:
        super().__init__(engine, publisher, gather_s=gather_s, what=WHAT)
        self._codec = codec

    def new_saga_id(self) -> str:
        """Return the id of a new saga, which travels with others that begin now."""
        return self._cohorts.new_id()

    def submit_batch(self, submissions: Sequence[Submission]) -> Sequence[Accepted | Problem]:
        """Store these requests in one transaction and return their outcomes, in the same order.

        1. One transaction stores them and deletes the outbox rows that were delivered meanwhile.
        2. After the commit the rows are published, or gathered for that.
        """
        # 1.
        called = self._breaker.call(*NO_DATABASE, always=True)
        with called, self._publisher.removal() as delivered, self._engine.begin() as tx:
            outbox.remove(tx, delivered)
            result = intake.accept(tx, submissions, codec=self._codec, new_saga_id=self.new_saga_id, now=utc_now())
        # 2.
        self.publish(result.rows)
        return result.outcomes
