"""The saga that declares a dividend run that two persons approved by its hash.

Its lines are posted by sagas of their own, in parts, and paid by sagas of their own, in waves.
"""

from __future__ import annotations

from messages.ledger import DividendDeclared, DividendRefused
from messages.members import DividendRunApproved
from messages.saga import DividendRunCompleted, DividendRunFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

DIVIDEND_RUN_V1 = SagaDefinition(
    name="dividend_run",
    version=1,
    started_by=DividendRunApproved,
    subject=SubjectDefinition(field="run_id", kind="run"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="declare_dividend",
            service="ledger",
            trigger=DividendRunApproved,
            succeeds_with=DividendDeclared,
            rejected_with=DividendRefused,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=DividendRunCompleted,
    failed_by=DividendRunFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=30,
    references=(ReferenceDefinition(kind="dividend_run", event=DividendRunApproved, field="run_id"),),
)
