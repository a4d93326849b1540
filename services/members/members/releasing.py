"""Brings dividend runs on, on a thread of its own: what is next of each open run, a little at a time.

It must never end the process: a failure is logged, and the run goes on at the next time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from sqlalchemy import Engine

from chassis.postgres.transient import utc_now
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from members import dividend_tables, running
from members.intake import outbox_row

EVERY_S: Final = 0.5
"""A chunk takes the ledger about as long, and a wave of payouts many times that."""
AFTER_FAILURE_S: Final = 5.0
"""While the database is unavailable there is nothing to do, and a line of the log now and then is enough."""
STOP_WITHIN_S: Final = 3.0

log = structlog.get_logger(__name__)


class RunReleaser:
    """Releases chunks and waves. ``publish`` receives the rows once they are committed."""

    def __init__(self, engine: Engine, codec: Codec, publish: Callable[[Sequence[OutboxRow]], None]) -> None:
        self._engine = engine
        self._codec = codec
        self._publish = publish
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="dividend-runs", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the transaction under way. Blocks for a few seconds at most."""
        self._stopping.set()
        self._thread.join(STOP_WITHIN_S)

    def run_once(self) -> int:
        """Bring each open run on once, and return how many events were released. What another replica locks waits."""
        released, after = 0, ""
        while True:
            with self._engine.begin() as tx:
                run = tx.execute(dividend_tables.NEXT_OPEN, {"after": after}).one_or_none()
                if run is None:
                    return released
                rows = [outbox_row(event, self._codec, None) for event in running.advance(tx, run, utc_now())]
                outbox.save(tx, rows)
            if rows:
                self._publish(rows)
            released += len(rows)
            after = run.run_id

    def _loop(self) -> None:
        pause_s = EVERY_S
        while not self._stopping.wait(pause_s):
            pause_s = EVERY_S
            try:
                self.run_once()
            except Exception:  # a lost connection and a defect alike: the next time shows which
                pause_s = AFTER_FAILURE_S
                log.exception("A dividend run could not be brought on; it is tried again.")
