"""The withdrawal saga: hold, float, payout, commit, notify.

Nothing takes a payout back, so only proof that it failed leads to the hold's release, and no time does.
"""

from __future__ import annotations

from messages.ledger import HoldPlaced, HoldRefused, HoldReleased, PayoutCommitted, ReleaseHold
from messages.members import WithdrawalCancellationRequested, WithdrawalRequested
from messages.mobile_money import FloatRefused, FloatReleased, FloatReserved, PayoutFailed, PayoutPaid, ReleaseFloat
from messages.notifier import MemberNotified
from messages.saga import WithdrawalCompleted, WithdrawalFailed
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

WITHDRAWAL_V1 = SagaDefinition(
    name="withdrawal",
    version=1,
    started_by=WithdrawalRequested,
    subject=SubjectDefinition(field="member_id", kind="member"),
    cancelled_by={WithdrawalCancellationRequested: "member"},
    steps=(
        StepDefinition(
            name="place_hold",
            service="ledger",
            trigger=WithdrawalRequested,
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
    completed_by=WithdrawalCompleted,
    failed_by=WithdrawalFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=120,
    reactions={
        WithdrawalRequested: ("notifier",),
        PayoutCommitted: ("members",),
        WithdrawalFailed: ("notifier",),
    },
    references=(
        ReferenceDefinition(kind="receipt", event=PayoutPaid, field="receipt"),
        ReferenceDefinition(kind="phone", event=WithdrawalRequested, field="phone", is_personal=True),
    ),
)
