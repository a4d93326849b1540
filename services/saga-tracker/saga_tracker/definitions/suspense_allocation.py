"""The saga of a receipt that two persons assigned: it is allocated, and the member is notified."""

from __future__ import annotations

from messages.ledger import AssignedReceiptAllocated
from messages.members import ReceiptAssigned
from messages.notifier import MemberNotified
from messages.saga import SuspenseAllocationCompleted, SuspenseAllocationFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

SUSPENSE_ALLOCATION_V1 = SagaDefinition(
    name="suspense_allocation",
    version=1,
    started_by=ReceiptAssigned,
    subject=SubjectDefinition(field="member_id", kind="member"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="post_allocation",
            service="ledger",
            trigger=ReceiptAssigned,
            succeeds_with=AssignedReceiptAllocated,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            forward_only=True,
        ),
        StepDefinition(
            name="notify_member",
            service="notifier",
            trigger=AssignedReceiptAllocated,
            succeeds_with=MemberNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=SuspenseAllocationCompleted,
    failed_by=SuspenseAllocationFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=60,
    reactions={
        AssignedReceiptAllocated: ("members", "mobile-money"),
    },
    references=(ReferenceDefinition(kind="receipt", event=ReceiptAssigned, field="receipt"),),
)
