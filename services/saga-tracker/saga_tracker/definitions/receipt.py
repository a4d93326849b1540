"""The receipt saga: money has arrived. It is recorded, attributed, allocated, and the member is notified.

Nothing in it is rejected, for the money is here. What cannot be attributed stays in the ledger among what is not
allocated and on the work list of members, and this saga ends; persons then start the saga ``suspense_allocation``.
"""

from __future__ import annotations

from messages.ledger import ReceiptAllocated, ReceiptRecorded
from messages.members import ReceiptAttributed
from messages.mobile_money import ReceiptReceived
from messages.notifier import MemberNotified
from messages.saga import ReceiptCompleted, ReceiptFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

RECEIPT_V1 = SagaDefinition(
    name="receipt",
    version=1,
    started_by=ReceiptReceived,
    subject=SubjectDefinition(field="short_code", kind="short_code"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="record_receipt",
            service="ledger",
            trigger=ReceiptReceived,
            succeeds_with=ReceiptRecorded,
            kind=StepKind.PIVOT,
            timeout_s=7 * 86_400,
            exhausted=Exhausted.PARK,
            forward_only=True,
        ),
        StepDefinition(
            name="attribute_receipt",
            service="members",
            trigger=ReceiptRecorded,
            succeeds_with=ReceiptAttributed,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="post_allocation",
            service="ledger",
            trigger=ReceiptAttributed,
            succeeds_with=ReceiptAllocated,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="notify_member",
            service="notifier",
            trigger=ReceiptAllocated,
            succeeds_with=MemberNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=ReceiptCompleted,
    failed_by=ReceiptFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=7 * 86_400,
    reactions={
        ReceiptAllocated: ("members", "mobile-money"),
    },
    references=(ReferenceDefinition(kind="receipt", event=ReceiptReceived, field="receipt"),),
)
