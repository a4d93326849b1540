"""The saga that pays out a loan, or one part of it: the steps of a withdrawal, from the loan's account."""

from __future__ import annotations

from messages.ledger import HoldPlaced, HoldRefused, HoldReleased, PayoutCommitted, ReleaseHold
from messages.members import LoanApproved
from messages.mobile_money import FloatRefused, FloatReleased, FloatReserved, PayoutFailed, PayoutPaid, ReleaseFloat
from messages.notifier import MemberNotified
from messages.saga import LoanDisbursementCompleted, LoanDisbursementFailed
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

LOAN_DISBURSEMENT_V1 = SagaDefinition(
    name="loan_disbursement",
    version=1,
    started_by=LoanApproved,
    subject=SubjectDefinition(field="member_id", kind="member"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="place_hold",
            service="ledger",
            trigger=LoanApproved,
            succeeds_with=HoldPlaced,
            rejected_with=HoldRefused,
            compensation=CompensationDefinition(command=ReleaseHold, reply=HoldReleased),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="reserve_float",
            service="mobile-money",
            trigger=HoldPlaced,
            succeeds_with=FloatReserved,
            rejected_with=FloatRefused,
            compensation=CompensationDefinition(command=ReleaseFloat, reply=FloatReleased),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="send_payout",
            service="mobile-money",
            trigger=FloatReserved,
            succeeds_with=PayoutPaid,
            rejected_with=PayoutFailed,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=900, reference="conversation"),
        ),
        StepDefinition(
            name="commit_payout",
            service="ledger",
            trigger=PayoutPaid,
            succeeds_with=PayoutCommitted,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="notify_member",
            service="notifier",
            trigger=PayoutCommitted,
            succeeds_with=MemberNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=LoanDisbursementCompleted,
    failed_by=LoanDisbursementFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=120,
    reactions={
        LoanApproved: ("notifier",),
        PayoutCommitted: ("members",),
        LoanDisbursementFailed: ("notifier",),
    },
    references=(
        ReferenceDefinition(kind="loan", event=LoanApproved, field="loan_id"),
        ReferenceDefinition(kind="receipt", event=PayoutPaid, field="receipt"),
        ReferenceDefinition(kind="phone", event=LoanApproved, field="phone", is_personal=True),
    ),
)
