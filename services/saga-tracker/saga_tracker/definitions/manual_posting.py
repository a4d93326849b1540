"""The manual posting saga: what one person proposed and another approved is held, and then posted."""

from __future__ import annotations

from messages.ledger import (
    CorrectManualPosting,
    ManualPostingApproved,
    ManualPostingCorrected,
    ManualPostingHeld,
    ManualPostingPosted,
    ManualPostingRejected,
    ManualPostingVoided,
    VoidManualPosting,
)
from messages.saga import ManualPostingConfirmed, ManualPostingFailed
from saga_tracker.model.saga import (
    CompensationDefinition,
    Exhausted,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

MANUAL_POSTING_V1 = SagaDefinition(
    name="manual_posting",
    version=1,
    started_by=ManualPostingApproved,
    subject=SubjectDefinition(field="proposed_by", kind="proposer"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="hold_manual_posting",
            service="ledger",
            trigger=ManualPostingApproved,
            succeeds_with=ManualPostingHeld,
            rejected_with=ManualPostingRejected,
            compensation=CompensationDefinition(command=VoidManualPosting, reply=ManualPostingVoided),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="post_manual_posting",
            service="ledger",
            trigger=ManualPostingHeld,
            succeeds_with=ManualPostingPosted,
            compensation=CompensationDefinition(command=CorrectManualPosting, reply=ManualPostingCorrected),
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            holds="entries",
        ),
    ),
    completed_by=ManualPostingConfirmed,
    failed_by=ManualPostingFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=60,
)
