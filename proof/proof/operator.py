"""Operators in a schedule: they redrive or compensate parked sagas, through the tracker's real plans."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import text

from proof.connections import ProcessConnection
from proof.databases import NEXT_WAKE_UPS, TRACKER, Database
from proof.schedule import Schedule
from proof.tracker_process import NextWakeUp
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.http import previews
from saga_tracker.http.previews import InvalidSelection
from saga_tracker.store import plans
from saga_tracker.store.plans import ActKind, ItemState
from saga_tracker.store.selections import Selection

CONNECTION = 2
"""The number of the connection that the tracker's API uses."""
NAME = "ops-3"
RATE_PER_S = 500
SAGAS_MAX = 50
"""A schedule has fewer."""
ACTS = (ActKind.REDRIVE, ActKind.REDRIVE, ActKind.REDRIVE, ActKind.COMPENSATE)
UNSETTLED = text("""
    SELECT saga_id FROM sagas
    WHERE state = 'NEEDS_REVIEW'
       OR EXISTS (SELECT FROM dead_letters WHERE dead_letters.saga_id = sagas.saga_id AND open)
""")


@dataclass(slots=True, kw_only=True)
class Operator:
    """Operators of parked sagas, who use the tracker's API."""

    database: Database
    schedule: Schedule
    next_wake_up: NextWakeUp
    connection: ProcessConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = self.database.connection(TRACKER, CONNECTION, follow_up=NEXT_WAKE_UPS)

    def act_on_parked(self) -> None:
        """Redrive, or compensate, every saga that is parked now."""
        self._act(self.schedule.chance.choice(ACTS), None)

    def act_at_rest(self) -> bool:
        """Redrive parked sagas and open dead letters; compensate the rest. Return whether there was any."""
        with self.connection.begin() as tx:
            unsettled = {row.saga_id for row in tx.execute(UNSETTLED)}
        planned = self._act(ActKind.REDRIVE, unsettled)
        return bool(planned | self._act(ActKind.COMPENSATE, unsettled - planned))

    def _act(self, kind: ActKind, saga_ids: Collection[str] | None) -> set[str]:
        """Plan an act and apply it twice, the second time without effect; return the sagas that it is for."""
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
        self.next_wake_up.update(self.connection.follow_up_rows)
        for item in items:
            self.schedule.faults[f"an operator's {kind.value.lower()}"] += 1
            self.schedule.note(f"an operator plans {kind.value} of saga {item.saga_id[-6:]}: {item.runs}", item.saga_id)
        return {item.saga_id for item in items}
