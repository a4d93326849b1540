"""The saga of a repayment from savings. Its money is one local transaction of the ledger, so nothing is ever undone.

What a member repays by mobile money is a receipt.
"""

from __future__ import annotations

from messages.ledger import RepaymentPosted, RepaymentRefused
from messages.members import LoanRepaymentRequested
from messages.notifier import MemberNotified
from messages.saga import LoanRepaymentCompleted, LoanRepaymentFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

LOAN_REPAYMENT_V1 = SagaDefinition(
    name="loan_repayment",
    version=1,
    started_by=LoanRepaymentRequested,
    subject=SubjectDefinition(field="member_id", kind="member"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="post_repayment",
            service="ledger",
            trigger=LoanRepaymentRequested,
            succeeds_with=RepaymentPosted,
            rejected_with=RepaymentRefused,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            forward_only=True,
        ),
        StepDefinition(
            name="notify_member",
            service="notifier",
            trigger=RepaymentPosted,
            succeeds_with=MemberNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=LoanRepaymentCompleted,
    failed_by=LoanRepaymentFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=60,
    reactions={
        RepaymentPosted: ("members", "mobile-money"),
    },
    references=(ReferenceDefinition(kind="loan", event=LoanRepaymentRequested, field="loan_id"),),
)
