"""Business days: a day's statements against what the ledger had, decided once the ledger has measured it.

A day is closed, or open with its reason; an open one is run again. What is unallocated, in transit or in doubt is in
the report with its age, and keeps no day open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from chassis.postgres.statement import Statement
from chassis.saga.steps import Handler, Reaction, Step
from chassis.values.json_text import compact
from messages.contract import Envelope
from messages.saga import EndOfDayCompleted, EndOfDayFailed
from mobile_money.domain import Decision
from mobile_money.sagas import end_of_day
from mobile_money.statement_tables import ACCOUNTS
from mobile_money.step_requests import DecideDay

DECIDE_DAY: Final = "decide_day"
SAGAS: Final = frozenset({("end_of_day", 1)})

FIND: Final = Statement("""
    SELECT saga_id, report FROM business_days
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id FOR UPDATE
""")
DECIDED: Final = Statement("""
    UPDATE business_days
    SET state = row.state, reason = row.reason, difference_minor = row.difference_minor, decided_at = now()
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(reasons)s AS text[]),
                CAST(%(differences)s AS bigint[])) AS row (saga_id, state, reason, difference_minor)
    WHERE business_days.saga_id = row.saga_id
""")
FAILED: Final = Statement("""
    UPDATE business_days SET state = 'FAILED', reason = 'its saga was stopped'
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND state = 'REQUESTED'
""")


@dataclass(slots=True)
class Days:
    """The reports of the days of a batch, by saga, and what is decided."""

    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    decided: list[Decision] = field(default_factory=list)


def canonical(report: dict[str, Any]) -> str:
    """Return a report in its one form, whose hash a person signs."""
    return compact(report)


def sha256_of(report: str) -> str:
    """Return the hash of a report in its one form."""
    return hashlib.sha256(report.encode()).hexdigest()


def decision_of(request: DecideDay, report: dict[str, Any] | None) -> Decision:
    """Return what is decided about a day: closed where all of it is explained. Pure."""
    if report is None:
        return Decision(saga_id=request.saga_id, reason="no_report", difference_minor=0)
    statement = report["utility_minor"]
    difference = 0 if statement is None else statement - request.utility_minor - report["timing_minor"]
    reason = None
    missing = [each for each in ACCOUNTS if each not in report["accounts"]]
    if missing:
        reason = f"no statement of {', '.join(each.lower() for each in missing)}"
    elif report["gaps"]:
        reason = f"{report['gaps']} gaps in the statements"
    elif report["rows"] != report["matched"] + report["listed"]:
        reason = f"{report['rows'] - report['matched'] - report['listed']} rows are neither matched nor listed"
    elif difference:
        reason = f"{difference} cents of the utility account are not explained"
    return Decision(saga_id=request.saga_id, reason=reason, difference_minor=difference)


def load(requests: Sequence[DecideDay], tx: Connection) -> Days:
    """Lock the days of these requests."""
    rows = FIND.rows(tx, {"saga_ids": sorted({each.saga_id for each in requests})})
    return Days(reports={row.saga_id: json.loads(row.report) for row in rows})


def decide(request: DecideDay, found: Days, _envelope: Envelope) -> Decision:
    """Decide about a day."""
    decision = decision_of(request, found.reports.get(request.saga_id))
    found.decided.append(decision)
    return decision


def save(found: Days, tx: Connection) -> None:
    """Save what was decided."""
    ordered = sorted(found.decided, key=lambda each: each.saga_id)
    values = {
        "saga_ids": [each.saga_id for each in ordered],
        "states": [each.state for each in ordered],
        "reasons": [each.reason for each in ordered],
        "differences": [each.difference_minor for each in ordered],
    }
    DECIDED.run(tx, values)


def on_completed(events: Sequence[EndOfDayCompleted], _tx: Connection) -> None:
    """Do nothing: the step has recorded what was decided."""


def on_failed(events: Sequence[EndOfDayFailed], tx: Connection) -> None:
    """Record that these days were not decided about; each is run again."""
    FAILED.run(tx, {"saga_ids": sorted({each.saga_id for each in events})})


HANDLERS: Final[tuple[Handler, ...]] = (
    Step(
        name=DECIDE_DAY,
        triggers=(end_of_day.MEASURED,),
        load=load,
        decide=decide,
        save=save,
        compensation=None,
    ),
    Reaction(on=EndOfDayCompleted, sagas=SAGAS, apply=on_completed),
    Reaction(on=EndOfDayFailed, sagas=SAGAS, apply=on_failed),
)
