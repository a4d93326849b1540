"""What notifier does without a message: it ends deliveries of endpoints that get nothing, and deletes what is old."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from chassis.process.background import Task
from notifier.store import housekeeping

END_EVERY_S, DELETE_EVERY_S = 15.0, 60.0
LOCKS: Final = 0x6E746679_00020000
KEPT: Final = timedelta(days=60)
"""Events, deliveries and attempts. The last attempt is made at most two weeks after the first one."""
TEXTS_KEPT: Final = timedelta(days=180)
OUTCOMES_KEPT: Final = timedelta(days=180)
"""What is known of sagas that have begun. The failure of one comes within weeks."""

Clock = Callable[[], datetime]


def tasks(clock: Clock) -> tuple[Task, ...]:
    """Return notifier's tasks."""
    return (
        Task(
            name="end deliveries of disabled endpoints",
            run=lambda tx: end_undeliverable(tx, now=clock()),
            every_s=END_EVERY_S,
            lock=LOCKS,
        ),
        Task(
            name="delete what is old",
            run=lambda tx: delete_old(tx, now=clock()),
            every_s=DELETE_EVERY_S,
            lock=LOCKS + 1,
        ),
    )


def end_undeliverable(tx: Connection, *, now: datetime) -> bool:
    """End some deliveries whose endpoint is disabled or deleted, and return whether there may be more."""
    return housekeeping.end_undeliverable(tx, now=now)


def delete_old(tx: Connection, *, now: datetime) -> bool:
    """Delete some of what is kept no longer, and return whether there may be more."""
    return housekeeping.delete_old(
        tx, before=now - KEPT, outcomes_before=now - OUTCOMES_KEPT, texts_before=now - TEXTS_KEPT
    )
