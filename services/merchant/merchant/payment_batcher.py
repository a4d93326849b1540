"""Batches concurrent payments: one thread stores all that wait in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from sqlalchemy import Engine, text

from chassis.http.problem import Problem
from chassis.postgres.transient import utc_now
from chassis.process.request_batcher import NO_DATABASE, RequestBatcher
from chassis.saga import outbox
from chassis.saga.publisher import OutboxPublisher
from merchant import intake
from merchant.intake import Accepted, Submission, Terms
from merchant.worker_slots import NoFreeSlot, PaymentIds

OUTBOX_AGE_MAX: Final = timedelta(minutes=5)
"""A payment that waits for longer before anything happens to it is of no use to a payer at a till."""
CHECK_EVERY_S: Final = 1.0
RETRY_AFTER_S: Final = 5

OLDEST: Final = text("SELECT coalesce(now() - min(created_at), interval '0') FROM outbox")


class PaymentBatcher(RequestBatcher[Submission, Accepted]):
    """Stores payments for the API. It refuses them while the outbox lags."""

    def __init__(
        self,
        engine: Engine,
        terms: Terms,
        publisher: OutboxPublisher,
        ids: PaymentIds,
        *,
        gather_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(engine, publisher, gather_s=gather_s, what="payment")
        self._terms = terms
        self._ids = ids
        self._clock = clock
        self._check_at_s = 0.0
        self._lags = False

    def new_saga_id(self) -> str:
        """Return the id of a new saga, which travels with others that begin now."""
        return self._cohorts.new_id()

    def stop(self) -> None:
        """Store the waiting payments, publish them and end. Blocks for a few seconds at most."""
        super().stop()
        with suppress(*NO_DATABASE):  # then the lease ends by itself
            self._ids.release()

    def submit_batch(self, submissions: Sequence[Submission]) -> Sequence[Accepted | Problem]:
        """Store these payments in one transaction and return their outcomes, in the same order.

        1. While the outbox lags nothing is stored: more would only wait longer.
        2. Their ids are issued first: a lease of a worker slot needs a connection of its own.
        3. One transaction stores them and deletes the outbox rows that were delivered meanwhile.
        4. After the commit the rows are published, or gathered for that.
        """
        # 1.
        if self._outbox_lags():
            return [lagging() for _ in submissions]
        # 2.
        try:
            payment_ids = self._ids.next(len(submissions))
        except NoFreeSlot as error:
            return [no_slot(error) for _ in submissions]
        # 3.
        called = self._breaker.call(*NO_DATABASE, always=True)
        with called, self._publisher.removal() as delivered, self._engine.begin() as tx:
            outbox.remove(tx, delivered)
            result = intake.accept(
                tx,
                submissions,
                self._terms,
                payment_ids=payment_ids,
                new_saga_id=self.new_saga_id,
                now=utc_now(),
            )
        # 4.
        self.publish(result.rows)
        return result.outcomes

    def _outbox_lags(self) -> bool:
        """Return whether the oldest row has waited for too long; the database is queried once a second."""
        now_s = self._clock()
        if now_s >= self._check_at_s:
            with self._engine.begin() as tx:
                self._lags = tx.execute(OLDEST).scalar_one() > OUTBOX_AGE_MAX
            self._check_at_s = now_s + CHECK_EVERY_S
        return self._lags


def lagging() -> Problem:
    """Return the problem of a payment that would wait for too long before anything happens to it."""
    return Problem(
        status=503,
        detail="Accepted payments are waiting for longer than they should, so no further ones are taken; send the same "
        "request again after Retry-After seconds.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
        type="urn:baraza:problem:overloaded",
    )


def no_slot(error: NoFreeSlot) -> Problem:
    """Return the problem of a process that can issue no ids."""
    return Problem(status=503, detail=str(error), headers={"Retry-After": str(RETRY_AFTER_S)})
