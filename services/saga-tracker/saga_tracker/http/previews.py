"""What an operator asks before acting: what is parked and why, and what an act would do to which saga.

It changes no saga. A plan is made in one snapshot of the database, so that it shows what it freezes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chassis.wire.envelope import new_id
from messages.contract import name_of
from messages.saga import FenceSaga, RedriveStep
from sqlalchemy import Connection, Row, text

from saga_tracker.model.facts import Cancelled, from_record, merge
from saga_tracker.model.progress import Command, Decision, NotRedrivable, Phase, decide, redrive
from saga_tracker.model.saga import Definitions, SagaDefinition
from saga_tracker.store import dead_letters, plans
from saga_tracker.store.plans import ActKind, Item, ItemState, Plan

PLAN_SAGAS_MAX = 50_000
"""More than that is no selection any more; it also bounds what one answer costs."""
INSERT_ITEMS = 2_000
GROUPS_MAX = 500
IDS_SHOWN_MAX = 20

STABLE = r"""regexp_replace(regexp_replace(coalesce(reason, ''), '[0-9A-HJKMNP-TV-Z]{26}', '<id>', 'g'),
                            '[0-9]+(\.[0-9]+)?', '<n>', 'g')"""
"""A reason without what differs from saga to saga."""
GROUP = f"left(md5(concat_ws(' ', saga_type, phase, step, {STABLE})), 8)"

REVIEW = text(f"""
    SELECT {GROUP} AS group, saga_type AS type, phase, step, {STABLE} AS reason, count(*) AS count,
           min(coalesce(parked_at, updated_at)) AS oldest_at, min(saga_id) AS example
    FROM sagas
    WHERE state = 'NEEDS_REVIEW'
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY count DESC, 1
    LIMIT :limit
""")  # noqa: S608 - the expressions are constants

CANDIDATES = text(f"""
    SELECT saga_id, saga_type, saga_version, partition, version, phase, step, progress
    FROM sagas
    WHERE (CAST(:saga_ids AS text[]) IS NOT NULL OR state = 'NEEDS_REVIEW')
      AND (CAST(:saga_ids AS text[]) IS NULL OR saga_id = ANY(CAST(:saga_ids AS text[])))
      AND (CAST(:group AS text) IS NULL OR {GROUP} = :group)
      AND (CAST(:step AS text) IS NULL OR step = :step)
      AND (CAST(:started_after AS timestamptz) IS NULL OR started_at > :started_after)
      AND (CAST(:started_before AS timestamptz) IS NULL OR started_at < :started_before)
    ORDER BY saga_id
    LIMIT :limit
""")  # noqa: S608 - the expressions are constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parked sagas with one cause. ``group`` selects them, ``reason`` leaves out what differs between them."""

    group: str
    type: str
    phase: str
    step: str
    reason: str
    count: int
    oldest_at: datetime
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which sagas are meant: what is given must all hold. Without ``saga_ids`` only parked ones are."""

    saga_ids: Sequence[str] | None = None
    group: str | None = None
    step: str | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None


class InvalidSelection(ValueError):
    """The selection names no saga, too many, or one that the tracker does not have; the text says which."""


def review(tx: Connection) -> list[Group]:
    """Return the causes for which sagas are parked, the most frequent first."""
    return [Group(**row._mapping) for row in tx.execute(REVIEW, {"limit": GROUPS_MAX})]


def make(
    tx: Connection, definitions: Definitions, act: ActKind, selection: Selection, *, by: str, now: datetime
) -> Plan:
    """Freeze what the act would do to the selected sagas, and return the plan. Raises InvalidSelection."""
    rows = _candidates(tx, selection)
    unclear = dead_letters.unclear(tx, [row.saga_id for row in rows]) if act is ActKind.REDRIVE else {}
    plan_id = new_id()
    plans.insert(tx, plan_id, act, _json(selection), by=by, at=now)
    items = [
        _item(row, *_outlook(row, definitions, act, unclear.get(row.saga_id, {}), by=by, now=now), now=now)
        for row in rows
    ]
    for first in range(0, len(items), INSERT_ITEMS):
        plans.insert_items(tx, plan_id, items[first : first + INSERT_ITEMS])
    made = plans.find(tx, plan_id)
    assert made is not None, "it was made in this transaction"
    return made


def _candidates(tx: Connection, selection: Selection) -> Sequence[Row[Any]]:
    values: dict[str, Any] = {name: getattr(selection, name) for name in Selection.__slots__}
    if selection.saga_ids is not None:
        values["saga_ids"] = sorted(set(selection.saga_ids))
    rows = tx.execute(CANDIDATES, values | {"limit": PLAN_SAGAS_MAX + 1}).all()
    if selection.saga_ids is not None and set(selection.saga_ids).difference(row.saga_id for row in rows):
        missing = sorted(set(selection.saga_ids).difference(row.saga_id for row in rows))
        raise InvalidSelection(
            f"{len(missing)} of the ids are of no saga that fits the rest of the selection, for example {missing[0]}."
        )
    if not rows:
        raise InvalidSelection("No parked saga fits the selection; the review shows the groups and steps there are.")
    if len(rows) > PLAN_SAGAS_MAX:
        raise InvalidSelection(f"More than {PLAN_SAGAS_MAX} sagas fit; narrow it by a group, a step or a time.")
    return rows


def _item(row: Row[Any], runs: str | None, why_not: str | None, *, now: datetime) -> Item:
    return Item(
        saga_id=row.saga_id,
        partition=row.partition,
        revision=row.version,
        step=row.step,
        runs=runs,
        state=(ItemState.PLANNED if why_not is None else ItemState.NOT_RUNNABLE).value,
        detail=why_not,
        done_at=None if why_not is None else now,
    )


def _outlook(
    row: Row[Any], definitions: Definitions, act: ActKind, unclear: Mapping[str, int], *, by: str, now: datetime
) -> tuple[str | None, str | None]:
    """Return the commands that the act would lead to, and why it cannot be done (None: it can)."""
    definition = definitions.get((row.saga_type, row.saga_version))
    if definition is None:
        return None, f"This release has no {row.saga_type} version {row.saga_version}."
    if act is ActKind.ANNOTATE:
        return None, None
    progress = from_record(row.progress["known"])
    decision = decide(definition, progress)
    if act is ActKind.COMPENSATE:
        if decision.phase is not Phase.RUNNING:
            return None, f"It is {decision.state} in {decision.phase}; only one on its way forward can be given up."
        after = decide(definition, merge(progress, Cancelled(at=now, by=by, reason="")))
        return (None, after.parked) if after.phase is Phase.RUNNING else (_runs(definition, after), None)
    held = [service for service in unclear if service in definition.participants]
    told = [f"{name_of(RedriveStep)} {service}" for service in held]
    try:
        fact = redrive(definition, progress, at=now, by=by, reason="")
    except NotRedrivable as error:
        return (", ".join(told), None) if told else (None, str(error))
    return ", ".join([_runs(definition, decide(definition, merge(progress, fact))), *told]), None


def _runs(definition: SagaDefinition, decision: Decision) -> str:
    return ", ".join(_named(definition, command) for command in decision.commands) or decision.state.value


def _named(definition: SagaDefinition, command: Command) -> str:
    if command.step is None:
        return f"{name_of(FenceSaga)} {command.service}"
    if command.redrive is not None:
        return f"{name_of(RedriveStep)} {command.step}"
    compensation = next(step.compensation for step in definition.steps if step.name == command.step)
    assert compensation is not None, "only a step that has a compensation is compensated"
    return f"{name_of(compensation.command)} {command.step}"


def _json(selection: Selection) -> dict[str, Any]:
    """Return the selection for people to read; the plan's items have the ids."""
    given = {name: getattr(selection, name) for name in Selection.__slots__}
    if selection.saga_ids is not None and len(selection.saga_ids) > IDS_SHOWN_MAX:
        given["saga_ids"] = f"{len(selection.saga_ids)} ids"
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in given.items()
        if value is not None
    }
