"""The saga of a business day's end: the ledger's balances are measured and compared with the statements.

A day is closed, or open with a reason; an open day is run again.
"""

from __future__ import annotations

from messages.ledger import DayMeasured
from messages.mobile_money import BusinessDayDecided, DayCloseRequested
from messages.saga import EndOfDayCompleted, EndOfDayFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

END_OF_DAY_V1 = SagaDefinition(
    name="end_of_day",
    version=1,
    started_by=DayCloseRequested,
    subject=SubjectDefinition(field="short_code", kind="short_code"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="measure_day",
            service="ledger",
            trigger=DayCloseRequested,
            succeeds_with=DayMeasured,
            kind=StepKind.PIVOT,
            timeout_s=60,
            exhausted=Exhausted.PARK,
            forward_only=True,
        ),
        StepDefinition(
            name="decide_day",
            service="mobile-money",
            trigger=DayMeasured,
            succeeds_with=BusinessDayDecided,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=EndOfDayCompleted,
    failed_by=EndOfDayFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=90,
    references=(ReferenceDefinition(kind="business_day", event=DayCloseRequested, field="day"),),
)
