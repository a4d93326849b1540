"""The load: a retailer's baskets at a steady rate through every checkout; customers cancel some, and return some.

Merchants' payments are requested beside them, and members of a SACCO move their money, where the stack has these.
Without a rate there are no orders.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

from baraza.chaos.payments import Payments
from baraza.chaos.replicas import Replicas
from baraza.chaos.returns import Returns
from baraza.chaos.sacco import Sacco
from baraza.storefront.dataset import Workload
from baraza.storefront.orderfile import Submission
from baraza.storefront.replay import RETRY_FOR_S, Intake, Replay, Result, Unlimited
from baraza.system.client import Api, Refused, Unreachable
from baraza.terminal import Refusal
from chassis.wire.envelope import new_id

CANCELLED_SHARE = 0.04
CANCEL_AFTER_S = (0.0, 1.5)
"""About as long as an order takes, so that some cancellations come too late."""


class Ended(Refusal):
    """The load ends, as requested."""


class Beside(Protocol):
    """What goes on beside the orders."""

    def open(self) -> None: ...

    def check(self) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


class Load:
    """Submits orders and requests returns while it is entered, and records which were accepted."""

    def __init__(
        self,
        checkouts: Sequence[Api],
        workload: Workload,
        *,
        rate: float,
        seed: int,
        outage_s: float = 0.0,
        payments: Payments | None = None,
        sacco: Sacco | None = None,
    ) -> None:
        self.intake = Intake()
        self.accepted: dict[str, str] = {}
        """Order ids by idempotency key."""
        self.cancellations = 0
        self._checkouts = Replicas(checkouts)
        self.returns = Returns(self._checkouts, seed=seed, outage_s=outage_s)
        self.payments = payments
        self.sacco = sacco
        beside: tuple[Beside | None, ...] = (self.returns, payments, sacco)
        self._beside = [each for each in beside if each is not None]
        self.has_orders = rate > 0
        self._workload = workload
        self._rate = rate
        self._retry_for_s = RETRY_FOR_S + outage_s
        self._chance = random.Random(f"load {seed}")
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._running: Future[None] | None = None
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> Self:
        self._running = self._pool.submit(self._run) if self.has_orders else None
        for each in self._beside:
            each.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for timer in self._timers:
            timer.cancel()
        for each in self._beside:
            each.close()
        self._pool.shutdown(wait=True)

    def check(self) -> None:
        """Raise the error that ended the load before its time."""
        if self._running is not None and self._running.done():
            self._running.result()
        for each in self._beside:
            each.check()

    def end(self) -> None:
        """Submit nothing more, and wait until what is in flight is answered. Raises Refusal where it is not."""
        self._stop.set()
        if self._running is not None:
            self._running.result()
        for each in self._beside:
            each.end()

    def _run(self) -> None:
        replay = Replay(
            checkout=self._checkouts,
            window=Unlimited(),
            rate=self._rate,
            intake=self.intake,
            on_batch=self._on_batch,
            checkpoint=self._checkpoint,
            retry_for_s=self._retry_for_s,
        )
        try:
            replay.run(self._workload.submissions(prefix=f"chaos-{new_id()}-"))
        except Ended:
            return

    def _checkpoint(self) -> None:
        if self._stop.is_set():
            raise Ended("The load ends here.")

    def _on_batch(self, sent: Sequence[Submission], results: Sequence[Result]) -> None:
        for submission, result in zip(sent, results, strict=True):
            if result["status"] not in (200, 202):
                continue
            order_id = result["order"]["order_id"]
            self.accepted[submission.key] = order_id
            self.returns.consider(order_id, submission.body)
            if self._chance.random() < CANCELLED_SHARE:
                timer = threading.Timer(self._chance.uniform(*CANCEL_AFTER_S), self._cancel, (order_id,))
                timer.daemon = True
                timer.start()
                self._timers.append(timer)

    def _cancel(self, order_id: str) -> None:
        """Cancel an order as its customer; a refusal, or no response, is ignored, as a customer would."""
        try:
            self._checkouts.next().call("POST", f"/v1/orders/{order_id}/cancel")
        except (Refused, Unreachable):
            return
        self.cancellations += 1
