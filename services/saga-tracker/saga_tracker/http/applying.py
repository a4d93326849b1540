"""Makes plans and marks them as to be applied, for the endpoints of one saga and of many. Each is logged with why.

Who must not be the same person is decided by PostgreSQL, which compares names without their capitals; an answer only
says it in advance.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.problem import FieldError, Problem, invalid
from chassis.settings import BREAK_GLASS_ISSUER
from chassis.wire.envelope import derived_id
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.http import previews
from saga_tracker.store import operator_log, plans
from saga_tracker.store.operator_log import LogEntry
from saga_tracker.store.plans import ActKind, Plan
from saga_tracker.store.selections import Selection

RATE_PER_S: Final = 500
"""About a quarter of what the services process on a small machine, so that new orders continue beside a redrive."""


def made(
    tx: Connection, act: ActKind, selection: Selection, operator: Principal, *, approval_above: int | None = None
) -> Plan:
    """Make a plan. Raises Problem (422) where the selection fits no saga or too many."""
    now = datetime.now(UTC)
    try:
        return previews.make(tx, DEFINITIONS, act, selection, by=operator.actor, now=now, approval_above=approval_above)
    except previews.InvalidSelection as error:
        raise invalid([FieldError(pointer="#/selection", detail=str(error))]) from error


def apply(tx: Connection, plan: Plan, operator: Principal, reason: str, rate_per_s: int) -> None:
    """Let the worker apply a plan, and log it. One that was applied before stays as it is."""
    now = datetime.now(UTC)
    if not plans.apply(tx, plan.plan_id, by=operator.actor, reason=reason, rate_per_s=rate_per_s, now=now):
        return
    counts = ", ".join(f"{count} {state}" for state, count in sorted(plan.counts.items()))
    entry = LogEntry(
        act_id=derived_id("apply", plan.plan_id),
        at=now,
        actor=operator.actor,
        act="APPLY_PLAN",
        reason=reason,
        plan_id=plan.plan_id,
        detail=f"{plan.act}: {counts}",
    )
    operator_log.log(tx, [entry])


def is_same_person(one: str, other: str) -> bool:
    """Return whether two names may be of one person: they may differ in capitals and blanks around them.

    The name in a token of break-glass was typed, so it may be any person's.
    """
    names = (one.strip().lower(), other.strip().lower())
    return names[0] == names[1] or any(each.startswith(f"{BREAK_GLASS_ISSUER}|") for each in names)


def found(plan: Plan | None) -> Plan:
    """Return the plan, or answer 404."""
    if plan is None:
        raise Problem(status=404, detail="There is no plan with that id.")
    return plan
