"""The collection saga: a member's phone is prompted to pay. It posts nothing, and there is nothing to undo.

What is paid is a receipt, whose saga begins with the money, whatever became of the prompt.
"""

from __future__ import annotations

from messages.members import CollectionRequested
from messages.mobile_money import PromptFailed, PromptPaid
from messages.saga import CollectionCompleted, CollectionFailed
from saga_tracker.model.saga import (
    AwaitedDefinition,
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

COLLECTION_V1 = SagaDefinition(
    name="collection",
    version=1,
    started_by=CollectionRequested,
    subject=SubjectDefinition(field="member_id", kind="member"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="send_prompt",
            service="mobile-money",
            trigger=CollectionRequested,
            succeeds_with=PromptPaid,
            rejected_with=PromptFailed,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=900, reference="prompt"),
        ),
    ),
    completed_by=CollectionCompleted,
    failed_by=CollectionFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=30,
    reactions={
        PromptPaid: ("members",),
        PromptFailed: ("members",),
    },
    references=(
        ReferenceDefinition(kind="collection_reference", event=CollectionRequested, field="reference"),
        ReferenceDefinition(kind="phone", event=CollectionRequested, field="phone", is_personal=True),
        ReferenceDefinition(kind="receipt", event=PromptPaid, field="receipt"),
    ),
)
