"""Operators in a schedule: they redrive what is parked, or give it up, by the tracker's real plans."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from saga_tracker.definitions import DEFINITIONS
from saga_tracker.http import previews
from saga_tracker.http.previews import InvalidSelection, Selection
from saga_tracker.store import plans
from saga_tracker.store.plans import ActKind, ItemState
from sqlalchemy import text

from proof.connections import ProcessConnection
from proof.databases import NEXT_WAKING, TRACKER, Database
from proof.schedule import Schedule
from proof.tracker_process import Due

CONNECTION = 2
"""The number of the connection of the tracker's API."""
NAME = "ops-3"
RATE_PER_S = 500
SAGAS_MAX = 10
"""A schedule has fewer."""
ACTS = (ActKind.REDRIVE, ActKind.REDRIVE, ActKind.REDRIVE, ActKind.COMPENSATE)
UNSETTLED = text("""
    SELECT saga_id FROM sagas
    WHERE state = 'NEEDS_REVIEW'
       OR EXISTS (SELECT FROM dead_letters WHERE dead_letters.saga_id = sagas.saga_id AND open)
""")


@dataclass(slots=True, kw_only=True)
class Operator:
    """Whoever looks after parked sagas, through the tracker's API."""

    database: Database
    schedule: Schedule
    due: Due
    connection: ProcessConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = self.database.connection(TRACKER, CONNECTION, looks_at=NEXT_WAKING)

    def act_on_parked(self) -> None:
        """Redrive or give up everything that is parked just now, if anything is."""
        self._act(self.schedule.chance.choice(ACTS), None)

    def act_at_rest(self) -> bool:
        """Redrive what is parked and what nobody answers for, give up what no redrive helps; say if that was any."""
        with self.connection.begin() as tx:
            unsettled = {row.saga_id for row in tx.execute(UNSETTLED)}
        planned = self._act(ActKind.REDRIVE, unsettled)
        return bool(planned | self._act(ActKind.COMPENSATE, unsettled - planned))

    def _act(self, kind: ActKind, saga_ids: Collection[str] | None) -> set[str]:
        """Plan an act and apply it twice, of which the second must change nothing; return which sagas it is for."""
        if saga_ids is not None and not saga_ids:
            return set()
        now, selection = self.schedule.now, Selection(saga_ids=None if saga_ids is None else sorted(saga_ids))
        try:
            with self.connection.begin() as tx:
                plan_id = previews.make(tx, DEFINITIONS, kind, selection, by=NAME, now=now).plan_id
                for _ in range(2):
                    plans.apply(tx, plan_id, by=NAME, reason="looked at it", rate_per_s=RATE_PER_S, now=now)
                items = plans.items(tx, plan_id, after="", state=ItemState.PLANNED, limit=SAGAS_MAX)
        except InvalidSelection:
            return set()  # nothing is parked
        self.due.wake(self.connection.seen)
        for item in items:
            self.schedule.faults[f"an operator's {kind.value.lower()}"] += 1
            self.schedule.note(f"an operator wants {kind.value} of saga {item.saga_id[-6:]}: {item.runs}", item.saga_id)
        return {item.saga_id for item in items}
