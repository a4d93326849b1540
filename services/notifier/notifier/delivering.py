"""Delivers what is due: one thread talks to the database, the others call endpoints and talk to no database.

Several processes share the work by leases of rows. Nothing is lost when one is killed: what it had under way is due
again when its leases end, so an endpoint gets it at least once.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Connection, Engine

from chassis.http import webhook_signing
from chassis.postgres.transient import TransientRetry
from chassis.wire.envelope import new_id
from notifier import webhook_metrics
from notifier.calling import Caller
from notifier.model.capacity import CALLS_MAX, ENDPOINT_MAX, Capacity
from notifier.model.schedule import OVERLOADED, Answer, Outcome
from notifier.notices import Save
from notifier.recording import Finished, record
from notifier.sealing import NoKey, SealBroken, Sealing
from notifier.store.leasing import Leased, Wanted, lease_due, release
from notifier.store.leasing import Settled as SettledAttempt

POLL_S: Final = 0.5
"""How long a delivery waits at most before its first attempt, where this process has nothing to do."""
GATHER_S: Final = 0.02
"""Results that end together are recorded together."""
UNSEALED_AGAIN: Final = timedelta(minutes=5)
"""When a delivery is due again whose endpoint's secret cannot be read. It is our fault, and counts for nothing."""
ERROR_REST_S: Final = 5.0
STOP_WITHIN_S: Final = 1.0
"""Most calls end sooner. The process has ten seconds in all, of which its worker may need nine."""

log = structlog.get_logger()


class Deliverer:
    """Delivers in one process, from :meth:`start` to :meth:`stop`. ``clock`` is the wall clock."""

    def __init__(
        self,
        engine: Engine,
        caller: Caller,
        sealing: Sealing,
        save: Save,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        calls_max: int = CALLS_MAX,
    ) -> None:
        self._engine = engine
        self._caller = caller
        self._sealing = sealing
        self._save = save
        self._clock = clock
        self._monotonic = monotonic
        self._chance = chance or random.Random()
        self._lease = new_id()
        self._capacity = Capacity()
        self._finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self._unrecorded: list[Finished] = []
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._retry = TransientRetry(self._stopping)
        self._calls = ThreadPoolExecutor(calls_max, thread_name_prefix="webhook")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin on a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="deliverer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no further call, and record those that end within a second. Another process sends the others again."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_WITHIN_S)
        self._calls.shutdown(wait=False, cancel_futures=True)

    @property
    def under_way_count(self) -> int:
        """How many calls are begun and not recorded."""
        return len(self._capacity)

    def run_once(self) -> int:
        """Record what has ended, begin what is due, and return how many calls that is."""
        self._take_finished()
        settled, leased, unsealed = self._retry.transact(self._engine, self._transact)
        self._unrecorded.clear()
        for attempt in settled:
            _count(attempt)
        for delivery in leased:
            secrets = unsealed.get(delivery.delivery_id)
            if secrets:
                self._capacity.begin(delivery.delivery_id, delivery.endpoint_id, self._monotonic())
                self._calls.submit(self._call, delivery, secrets)
        webhook_metrics.UNDER_WAY.set(len(self._capacity))
        return len(leased)

    def wait(self, timeout_s: float) -> bool:
        """Wait until a call has ended since the last :meth:`run_once`, and return whether one has."""
        return self._wake.wait(timeout_s)

    def _take_finished(self) -> None:
        self._wake.clear()
        while True:
            try:
                finished = self._finished.get_nowait()
            except queue.Empty:
                return
            is_overloaded = finished.answer.status in OVERLOADED
            self._capacity.end(finished.leased.delivery_id, self._monotonic(), is_overloaded=is_overloaded)
            self._unrecorded.append(finished)

    def _transact(self, tx: Connection) -> tuple[list[SettledAttempt], list[Leased], dict[str, list[str]]]:
        now = self._clock()
        settled = record(self._unrecorded, self._lease, self._save, tx, now=now, chance=self._chance)
        leased = self._lease_more(tx, now)
        unsealed = {each.delivery_id: found for each in leased if (found := self._unseal(each))}
        kept = [each.delivery_id for each in leased if each.delivery_id not in unsealed]
        release(kept, self._lease, tx, due_at=now + UNSEALED_AGAIN)
        return settled, leased, unsealed

    def _lease_more(self, tx: Connection, now: datetime) -> list[Leased]:
        if self._stopping.is_set():
            return []
        room = self._capacity.room(self._monotonic())
        limits = {endpoint_id: room.limit_of(endpoint_id) for endpoint_id in {*room.busy, *room.slow}}
        found: list[Leased] = []
        for count, is_slow in ((room.quick, False), (room.slow_calls, True)):
            wanted = Wanted(
                count=count, is_slow=is_slow, slow=sorted(room.slow), limits=limits, endpoint_max=ENDPOINT_MAX
            )
            found += lease_due(wanted, self._lease, tx, now=now)
        return found

    def _unseal(self, leased: Leased) -> list[str]:
        """Return the secrets that sign; none where they cannot be read."""
        try:
            return [self._sealing.open(each) for each in leased.sealed]
        except (NoKey, SealBroken, OSError) as error:
            log.error("An endpoint's secret cannot be read; its deliveries wait.", error=str(error))
            return []

    def _call(self, leased: Leased, secrets: list[str]) -> None:
        began_at = self._clock()
        body = leased.body.encode()
        headers = webhook_signing.headers(secrets, leased.event_id, began_at, body)
        began_s = self._monotonic()
        try:
            answer = self._caller.call(leased.url, body, headers, is_live=leased.is_live)
        except Exception:  # a defect of ours; the call counts as failed, and must not stay under way for ever
            log.exception("A call to an endpoint failed unexpectedly.")
            answer = Answer(outcome=Outcome.BROKEN_ANSWER)
        webhook_metrics.SECONDS.observe(self._monotonic() - began_s)
        self._finished.put(Finished(leased=leased, answer=answer, began_at=began_at, ended_at=self._clock()))
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopping.is_set() or self._capacity:
            try:
                begun = self.run_once()
            except Exception:  # the thread must not end: the next round repeats it, and leases end by themselves
                log.exception("Deliveries could not be recorded or begun.")
                if self._stopping.wait(ERROR_REST_S):
                    return
                continue
            if not begun:
                self.wait(POLL_S)
            self._stopping.wait(GATHER_S)


def _count(settled: SettledAttempt) -> None:
    webhook_metrics.ATTEMPTS.labels(settled.outcome).inc()
    if settled.state != "DUE":
        webhook_metrics.DELIVERIES.labels(settled.state).inc()
