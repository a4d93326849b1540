"""The lanes of payouts: that of members, and that of dividends. One that is paused sends nothing until it is opened.

Our own faults pause a lane: no float, credentials, a product that is not assigned. None of them is a member's failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import Column, Connection, DateTime, Engine, PrimaryKeyConstraint, Table, Text

from chassis.http.downstream import NotTried
from chassis.postgres.statement import Statement
from chassis.postgres.transient import utc_now
from chassis.saga import attempt_rows
from mobile_money.domain import Lane, LaneId
from mobile_money.tables import metadata

READ_EVERY_S: Final = 1.0
"""A process reads the lanes' states this often."""
PAUSED_FOR_S: Final = 30.0
"""How long a send waits that meets a paused lane. Opening the lane wakes it before."""
SEND_PAYOUT: Final = "send_payout"
NO_FLOAT: Final = "insufficient_float"
PROVIDER: Final = "provider"
"""Who paused a lane, where no person did."""

log = structlog.get_logger()


lanes = Table(
    "lanes",
    metadata,
    Column("short_code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False, comment="OPEN or PAUSED"),
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("short_code", "name"),
)

PAUSED: Final = Statement("SELECT short_code, name FROM lanes WHERE state = 'PAUSED'")
SET: Final = Statement("""
    INSERT INTO lanes (short_code, name, state, reason, changed_by, since)
    VALUES (%(short_code)s, %(name)s, %(state)s, %(reason)s, %(by)s, %(now)s)
    ON CONFLICT (short_code, name) DO UPDATE
    SET state = excluded.state, reason = excluded.reason, changed_by = excluded.changed_by, since = excluded.since
    WHERE lanes.state <> excluded.state
    RETURNING name
""")
WAITING: Final = Statement("""
    SELECT payouts.saga_id FROM payouts
    JOIN awaited_steps ON awaited_steps.saga_id = payouts.saga_id AND awaited_steps.step = %(step)s
    WHERE payouts.short_code = %(short_code)s AND payouts.lane = %(name)s AND payouts.state = 'REQUESTED'
        AND awaited_steps.query_at IS NOT NULL
""")


def open_lanes(wanted: Collection[str], tx: Connection) -> Collection[str]:
    """Return which of these lanes are open; one that was never paused is."""
    return set(wanted) - paused(tx)


def paused(tx: Connection) -> set[str]:
    """Return the lanes that are paused."""
    return {f"{row.short_code}:{row.name}" for row in PAUSED.rows(tx, {})}


def pause(tx: Connection, lane: LaneId, *, reason: str, by: str, now: datetime) -> bool:
    """Pause a lane, and return whether it was open."""
    return _set(tx, lane, "PAUSED", reason, by, now)


def open_lane(tx: Connection, lane: LaneId, *, reason: str, by: str, now: datetime) -> bool:
    """Open a lane, and let the payouts go on that wait for it. Return whether it was paused."""
    if not _set(tx, lane, "OPEN", reason, by, now):
        return False
    values = {"step": SEND_PAYOUT, "short_code": lane.short_code, "name": lane.name.value}
    waiting = [row.saga_id for row in WAITING.rows(tx, values)]
    attempt_rows.wake(tx, SEND_PAYOUT, waiting, now=now)
    return True


def _set(tx: Connection, lane: LaneId, state: str, reason: str, by: str, now: datetime) -> bool:
    values = {"short_code": lane.short_code, "name": lane.name.value, "state": state}
    return bool(SET.rows(tx, {**values, "reason": reason, "by": by, "now": now}))


def pause_for_fault(tx: Connection, lane: LaneId, *, reason: str, now: datetime) -> None:
    """Pause what a fault of ours concerns: too little float one lane, anything else all of the short code's lanes."""
    concerned = [lane.name] if reason == NO_FLOAT else list(Lane)
    for name in concerned:
        if pause(tx, LaneId(short_code=lane.short_code, name=name), reason=reason, by=PROVIDER, now=now):
            log.error(
                "A lane is paused: a payout failed by our fault.", lane=f"{lane.short_code}:{name}", reason=reason
            )


class LaneGate:
    """What a process knows of the lanes, read again once a second. It refuses sends into one that is paused."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._paused: set[str] = set()
        self._read_at_s = 0.0

    def pause_for_fault(self, lane: LaneId, reason: str) -> None:
        """Pause what a fault of ours concerns, in a transaction of its own."""
        with self._engine.begin() as tx:
            pause_for_fault(tx, lane, reason=reason, now=utc_now())
        with self._lock:
            self._read_at_s = 0.0

    def check(self, lane: LaneId) -> None:
        """Raise NotTried where the lane is paused."""
        with self._lock:
            if self._clock() >= self._read_at_s:
                with self._engine.begin() as tx:
                    self._paused = paused(tx)
                self._read_at_s = self._clock() + READ_EVERY_S
            is_paused = str(lane) in self._paused
        if is_paused:
            raise NotTried(f"the lane {lane} is paused", retry_after_s=PAUSED_FOR_S)
