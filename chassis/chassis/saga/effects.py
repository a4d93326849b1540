"""The effects table: what each step did for each saga in this service, and what a message may still do to it.

A row is the inbox as well: a redelivered trigger finds it and changes nothing; a compensation that comes before its
step leaves ``FENCED``, and the step that comes later is refused. The decisions are pure; the SQL stands below them.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Boolean, Column, Connection, DateTime, MetaData, SmallInteger, Table, Text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import PendingResult, Statement
from chassis.saga.effect_states import EffectState as EffectState

OPEN = frozenset({EffectState.STARTED, EffectState.SENT, EffectState.UNSURE})
"""The states in which a step may still turn out to have run."""
IN_DOUBT = frozenset({EffectState.SENT, EffectState.UNSURE})
"""The open states whose outcome may be days away: no command waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One row of the effects table.

    ``attempt`` counts the calls begun; of an awaited step it is the number of the current attempt. After
    ``deadline_at`` the last call can no longer be under way. ``closing`` means that the saga is being fenced: a late
    outcome is recorded but not announced.
    """

    saga_id: str
    step: str
    state: EffectState
    attempt: int = 0
    deadline_at: datetime | None = None
    closing: bool = False


class OnTrigger(enum.Enum):
    """What a step's trigger may do."""

    RUN = enum.auto()
    IGNORE = enum.auto()


class OnDue(enum.Enum):
    """What to do about a call whose deferral is due."""

    WAIT = enum.auto()
    CALL = enum.auto()
    QUERY = enum.auto()
    """Query the provider for the outcome."""
    DISCARD = enum.auto()
    """The effect is settled; nothing waits for the call any more."""


class OnRedrive(enum.Enum):
    """What an operator's redrive may do."""

    RESUME = enum.auto()
    REPORT = enum.auto()
    """There is nothing to run any more: report the state of the step's effect."""
    WAIT = enum.auto()
    """Its saga is being fenced, and a call may be under way: settle it first."""


class OnFence(enum.Enum):
    """What a fence finds of one step."""

    FENCE = enum.auto()
    """It has not run, and never will."""
    WAIT = enum.auto()
    """A call may be under way: settle it first, which takes seconds."""
    DOUBT = enum.auto()
    """Its outcome comes later: reply at once that it is in doubt, and once more when it is settled."""
    ANSWER = enum.auto()
    """It is settled."""


class OnCompensation(enum.Enum):
    """What a compensation may do."""

    UNDO = enum.auto()
    REPLY = enum.auto()
    """There is nothing to undo, or it is undone already: only reply."""
    SETTLE = enum.auto()
    """A call may be under way, or its outcome may still come: settle it first."""


def on_trigger(effect: Effect | None) -> OnTrigger:
    """Run a step once: a trigger that finds a row, in any state, changes nothing."""
    return OnTrigger.RUN if effect is None else OnTrigger.IGNORE


def on_due(effect: Effect | None, now: datetime) -> OnDue:
    """Decide about a call that has no result.

    Without an effect there was no call yet: its preparation failed. Calling again is safe at any time, since the
    provider knows the key. While its saga is being fenced the provider is queried instead, and only once the call can
    no longer be under way: its request could arrive after the query.
    """
    if effect is None:
        return OnDue.CALL
    if effect.state is not EffectState.STARTED:
        return OnDue.DISCARD
    if not effect.closing:
        return OnDue.CALL
    return OnDue.WAIT if effect.deadline_at is not None and now < effect.deadline_at else OnDue.QUERY


def on_redrive(effect: Effect | None, *, is_awaited: bool = False) -> OnRedrive:
    """Decide about a step whose trigger is parked: it runs again unless its effect is settled, or about to be.

    A redrive of an awaited step makes no call. It resumes the queries for its outcome, also while the saga is fenced.
    """
    if effect is None:
        return OnRedrive.RESUME
    if effect.state in IN_DOUBT or effect.state is EffectState.PAUSED:
        return OnRedrive.RESUME
    if effect.state is not EffectState.STARTED:
        return OnRedrive.REPORT
    return OnRedrive.WAIT if effect.closing and not is_awaited else OnRedrive.RESUME


def on_fence(effect: Effect | None) -> OnFence:
    """Decide about one step of a saga that is being fenced. Nothing but evidence takes a step out of doubt."""
    if effect is None or effect.state is EffectState.PAUSED:
        return OnFence.FENCE
    if effect.state is EffectState.STARTED:
        return OnFence.WAIT
    return OnFence.DOUBT if effect.state in IN_DOUBT else OnFence.ANSWER


def on_compensation(effects: Collection[Effect | None]) -> OnCompensation:
    """Decide by everything that the compensation undoes (a refund undoes an authorization and its capture)."""
    states = {effect.state for effect in effects if effect is not None}
    if states & OPEN:
        return OnCompensation.SETTLE
    return OnCompensation.UNDO if EffectState.DONE in states else OnCompensation.REPLY


def fenced(saga_id: str, step: str, effect: Effect | None) -> Effect:
    """Return the effect after its saga was fenced: one that has not run never will, a call under way is closing."""
    if effect is None:
        return Effect(saga_id=saga_id, step=step, state=EffectState.FENCED, closing=True)
    if effect.state is EffectState.PAUSED:
        return replace(effect, state=EffectState.FENCED, closing=True)
    return effect if effect.closing else replace(effect, closing=True)


def undone(saga_id: str, step: str, effect: Effect | None) -> Effect:
    """Return the effect after its compensation; one that has not run is fenced."""
    if effect is None:
        return Effect(saga_id=saga_id, step=step, state=EffectState.FENCED, closing=True)
    if effect.state is EffectState.PAUSED:
        return replace(effect, state=EffectState.FENCED, closing=True)
    return replace(effect, state=EffectState.UNDONE) if effect.state is EffectState.DONE else effect


def started(effect: Effect | None, *, saga_id: str, step: str, deadline_at: datetime) -> Effect:
    """Return the effect with one more call begun, which is over by ``deadline_at``."""
    attempt = 1 if effect is None else effect.attempt + 1
    return Effect(saga_id=saga_id, step=step, state=EffectState.STARTED, attempt=attempt, deadline_at=deadline_at)


def not_called(effect: Effect) -> Effect:
    """Return the effect after a call that was begun and not made: the attempt does not count."""
    return replace(effect, attempt=effect.attempt - 1)


def resumed(effect: Effect) -> Effect:
    """Return the effect of a redriven step: its attempts count from the first again."""
    return replace(effect, attempt=0)


def settled(effect: Effect, state: EffectState) -> Effect:
    """Return the effect with the outcome of its call. Raises ValueError for an effect that is settled already."""
    if effect.state not in OPEN and effect.state is not EffectState.PAUSED:
        raise ValueError(f"{effect.step} of {effect.saga_id} is {effect.state}; only an open effect can be settled.")
    return replace(effect, state=state, deadline_at=None)


@dataclass(slots=True)
class LoadedEffects:
    """The effects of one batch's sagas: loaded and locked once, changed in memory, saved once."""

    _found: dict[tuple[str, str], Effect] = field(default_factory=dict)
    _changed: dict[tuple[str, str], Effect] = field(default_factory=dict)

    @classmethod
    def of(cls, effects: Iterable[Effect]) -> LoadedEffects:
        """Return these effects as loaded."""
        return cls(_found={(effect.saga_id, effect.step): effect for effect in effects})

    def get(self, saga_id: str, step: str) -> Effect | None:
        """Return the effect as the batch has left it so far."""
        return self._changed.get((saga_id, step)) or self._found.get((saga_id, step))

    def may_run(self, saga_id: str, step: str) -> bool:
        """Return whether a trigger may run its step now."""
        return on_trigger(self.get(saga_id, step)) is OnTrigger.RUN

    def is_started(self, saga_id: str, step: str) -> bool:
        """Return whether a call may be under way for this step."""
        effect = self.get(saga_id, step)
        return effect is not None and effect.state is EffectState.STARTED

    def put(self, effect: Effect) -> None:
        """Record a change; one that changes nothing is not saved."""
        if self.get(effect.saga_id, effect.step) != effect:
            self._changed[(effect.saga_id, effect.step)] = effect

    @property
    def new(self) -> list[Effect]:
        """The effects that had no row when the batch began."""
        return [effect for key, effect in self._changed.items() if key not in self._found]

    @property
    def changed(self) -> list[Effect]:
        """The effects whose row must be updated."""
        return [effect for key, effect in self._changed.items() if key in self._found]


def effects_table(metadata: MetaData) -> Table:
    """Return the effects table of a service's database."""
    return Table(
        "effects",
        metadata,
        Column("saga_id", Text, primary_key=True),
        Column("step", Text, primary_key=True),
        Column("state", Text, nullable=False),
        Column("attempt", SmallInteger, nullable=False, server_default="0"),
        Column("deadline_at", DateTime(timezone=True)),
        Column("closing", Boolean, nullable=False, server_default="false"),
        Column("updated_at", DateTime(timezone=True), nullable=False),
    )


COLUMNS = Columns.of(effects_table(MetaData()), without=["updated_at"], sources={"state": "state.value"})

LOAD = Statement(f"""
    SELECT {COLUMNS.names}
    FROM effects
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
    ORDER BY saga_id, step
    FOR UPDATE
""")

INSERT = Statement(f"""
    INSERT INTO effects ({COLUMNS.names}, updated_at)
    SELECT {COLUMNS.values}, %(now)s
    FROM {COLUMNS.rows}
""")

UPDATE = Statement(f"""
    UPDATE effects
    SET {COLUMNS.assignments}, updated_at = %(now)s
    FROM {COLUMNS.rows}
    WHERE effects.saga_id = row.saga_id AND effects.step = row.step
""")


def submit_load(tx: Connection, saga_ids: Iterable[str]) -> PendingResult:
    """Lock every effect of these sagas, in one order everywhere, and return what :func:`loaded` is made of."""
    return LOAD.submit(tx, {"saga_ids": sorted(set(saga_ids))})


def loaded(pending: PendingResult) -> LoadedEffects:
    """Return the effects of the sagas that were submitted."""
    return LoadedEffects.of(
        Effect(
            saga_id=row.saga_id,
            step=row.step,
            state=EffectState(row.state),
            attempt=row.attempt,
            deadline_at=row.deadline_at,
            closing=row.closing,
        )
        for row in pending.rows()
    )


def load(tx: Connection, saga_ids: Iterable[str]) -> LoadedEffects:
    """Load and lock every effect of these sagas."""
    return loaded(submit_load(tx, saga_ids))


def save(tx: Connection, loaded: LoadedEffects, *, now: datetime) -> None:
    """Save what changed, in one order everywhere.

    A row that another process inserted meanwhile fails the transaction; repeat it.
    """
    for statement, effects in ((INSERT, loaded.new), (UPDATE, loaded.changed)):
        if effects:
            ordered = sorted(effects, key=lambda effect: (effect.saga_id, effect.step))
            statement.run(tx, COLUMNS.parameters(ordered) | {"now": now})
