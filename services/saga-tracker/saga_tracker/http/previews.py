"""Makes plans: previews what an act would do to each selected saga, and freezes that. It applies no plan.

A plan is made in one snapshot of the database, so that it shows what it freezes. It must never change a saga.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row

from chassis.wire.envelope import new_id
from messages.contract import name_of
from messages.saga import FenceSaga, RedriveStep
from saga_tracker.model.decision import Command, Decision, Phase
from saga_tracker.model.facts import Cancelled, Progress, Resolution, Resolved, merge
from saga_tracker.model.operating import NothingToSettle, NotRedrivable, redrive, settle
from saga_tracker.model.progress import decide
from saga_tracker.model.records import from_record
from saga_tracker.model.resolution import NotResolvable, check_resolvable
from saga_tracker.model.saga import Definitions, SagaDefinition, services_of
from saga_tracker.store import dead_letters, plans, selections, timeline
from saga_tracker.store.plans import ActKind, Item, ItemState, Plan
from saga_tracker.store.selections import Selection

PLAN_SAGAS_MAX = 50_000
"""A larger set is hardly a selection. It also limits the cost of one request."""
INSERT_ITEMS = 2_000
IDS_SHOWN_MAX = 20

Outlook: TypeAlias = tuple[str | None, str | None]
"""The commands that an act would send, and why it is impossible (None: it is possible)."""


class InvalidSelection(ValueError):
    """The selection fits no saga or too many, or names one that the tracker does not have. The text says which."""


def make(
    tx: Connection,
    definitions: Definitions,
    act: ActKind,
    selection: Selection,
    *,
    by: str,
    now: datetime,
    approval_above: int | None = None,
) -> Plan:
    """Freeze what the act would do to the selected sagas, and return the plan. Raises InvalidSelection.

    It needs approval where it would act on more than ``approval_above`` sagas; None: never.
    """
    rows = _candidates(tx, selection)
    without_step = (
        dead_letters.services_without_step(tx, [row.saga_id for row in rows]) if act is ActKind.REDRIVE else {}
    )
    published = _published(tx, definitions, rows) if act.resolution is not None else {}
    plan_id = new_id()
    items = []
    for row in rows:
        services, end = without_step.get(row.saga_id, {}), published.get(row.saga_id)
        items.append(_item(row, *_outlook(row, definitions, act, services, end, by=by, now=now), now=now))
    planned_count = sum(item.state == ItemState.PLANNED for item in items)
    needs_approval = approval_above is not None and planned_count > approval_above
    plans.insert(tx, plan_id, act, _json(selection), by=by, at=now, needs_approval=needs_approval)
    for first in range(0, len(items), INSERT_ITEMS):
        plans.insert_items(tx, plan_id, items[first : first + INSERT_ITEMS])
    made = plans.find(tx, plan_id)
    assert made is not None, "it was inserted in this transaction"
    return made


def _candidates(tx: Connection, selection: Selection) -> Sequence[Row[Any]]:
    rows = selections.candidates(tx, selection, limit=PLAN_SAGAS_MAX + 1)
    if selection.saga_ids is not None and set(selection.saga_ids).difference(row.saga_id for row in rows):
        missing = sorted(set(selection.saga_ids).difference(row.saga_id for row in rows))
        raise InvalidSelection(
            f"{len(missing)} of the ids name no saga that fits the rest of the selection, for example {missing[0]}."
        )
    if not rows:
        raise InvalidSelection("No parked saga fits the selection; the review lists the existing groups and steps.")
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


def _published(tx: Connection, definitions: Definitions, rows: Sequence[Row[Any]]) -> dict[str, Resolution]:
    """Return the end of each saga whose last event was published."""
    ends: dict[str, dict[str, Resolution]] = {}
    for row in rows:
        if (definition := definitions.get((row.saga_type, row.saga_version))) is not None:
            ends[row.saga_id] = {
                name_of(definition.completed_by): Resolution.CONFIRMED,
                name_of(definition.failed_by): Resolution.COMPENSATED,
            }
    found = timeline.types_of(tx, {saga_id: list(types) for saga_id, types in ends.items()})
    return {saga_id: ends[saga_id][type_] for saga_id, type_ in found.items()}


def _resolved(
    definition: SagaDefinition,
    progress: Progress,
    resolution: Resolution,
    published: Resolution | None,
    *,
    by: str,
    now: datetime,
) -> Outlook:
    try:
        check_resolvable(definition, progress, resolution, published=published)
    except NotResolvable as error:
        return None, str(error)
    fact = Resolved(at=now, resolution=resolution, by=by, proposed_by=by, reason="")
    return _runs(definition, decide(definition, merge(progress, fact))), None


def _settled(progress: Progress, *, by: str, now: datetime) -> Outlook:
    try:
        settle(progress, at=now, by=by, reason="")
    except NothingToSettle as error:
        return None, str(error)
    return None, None


def _outlook(
    row: Row[Any],
    definitions: Definitions,
    act: ActKind,
    without_step: Mapping[str, int],
    published: Resolution | None,
    *,
    by: str,
    now: datetime,
) -> Outlook:
    """Return the commands that the act would send, and why it is impossible (None: it is possible)."""
    definition = definitions.get((row.saga_type, row.saga_version))
    if definition is None:
        return None, f"This release has no {row.saga_type} version {row.saga_version}."
    if act is ActKind.ANNOTATE:
        return None, None
    progress = from_record(row.progress["known"])
    if (resolution := act.resolution) is not None:
        return _resolved(definition, progress, resolution, published, by=by, now=now)
    if act is ActKind.SETTLE:
        return _settled(progress, by=by, now=now)
    decision = decide(definition, progress)
    if act is ActKind.COMPENSATE:
        if decision.phase is not Phase.RUNNING:
            return (
                None,
                f"It is {decision.state} in {decision.phase}; only one on its way forward can be compensated.",
            )
        after = decide(definition, merge(progress, Cancelled(at=now, by=by, reason="")))
        return (None, after.parked) if after.phase is Phase.RUNNING else (_runs(definition, after), None)
    services = [service for service in without_step if service in services_of(definitions)]
    redrives = [f"{name_of(RedriveStep)} {service}" for service in services]
    try:
        fact = redrive(definition, progress, at=now, by=by, reason="")
    except NotRedrivable as error:
        return (", ".join(redrives), None) if redrives else (None, str(error))
    return ", ".join([_runs(definition, decide(definition, merge(progress, fact))), *redrives]), None


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
    """Return the selection for people to read; the plan's items hold the ids."""
    given = {name: getattr(selection, name) for name in Selection.__slots__}
    if selection.saga_ids is not None and len(selection.saga_ids) > IDS_SHOWN_MAX:
        given["saga_ids"] = f"{len(selection.saga_ids)} ids"
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in given.items()
        if value is not None
    }
