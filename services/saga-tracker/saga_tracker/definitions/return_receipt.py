"""The saga that returns a receipt to its payer: held, reversed, committed. Two persons approve it before it begins."""

from __future__ import annotations

from messages.ledger import ReleaseReturn, ReturnCommitted, ReturnHeld, ReturnHoldRefused, ReturnReleased
from messages.members import ReceiptReturnApproved
from messages.mobile_money import ReceiptReversed, ReversalRefused
from messages.notifier import MemberNotified
from messages.saga import ReceiptReturnCompleted, ReceiptReturnFailed
from saga_tracker.model.saga import (
    AwaitedDefinition,
    CompensationDefinition,
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

RETURN_RECEIPT_V1 = SagaDefinition(
    name="return_receipt",
    version=1,
    started_by=ReceiptReturnApproved,
    subject=SubjectDefinition(field="short_code", kind="short_code"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="hold_return",
            service="ledger",
            trigger=ReceiptReturnApproved,
            succeeds_with=ReturnHeld,
            rejected_with=ReturnHoldRefused,
            compensation=CompensationDefinition(command=ReleaseReturn, reply=ReturnReleased),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="send_reversal",
            service="mobile-money",
            trigger=ReturnHeld,
            succeeds_with=ReceiptReversed,
            rejected_with=ReversalRefused,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=900, reference="conversation"),
        ),
        StepDefinition(
            name="commit_return",
            service="ledger",
            trigger=ReceiptReversed,
            succeeds_with=ReturnCommitted,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="notify_member",
            service="notifier",
            trigger=ReturnCommitted,
            succeeds_with=MemberNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=ReceiptReturnCompleted,
    failed_by=ReceiptReturnFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=90,
    reactions={
        ReturnCommitted: ("members",),
    },
    references=(
        ReferenceDefinition(kind="receipt", event=ReceiptReturnApproved, field="receipt"),
        ReferenceDefinition(kind="reversal_receipt", event=ReceiptReversed, field="reversal_receipt"),
    ),
)
