"""The saga that pays one line of a dividend run to a phone, with float that its wave has reserved."""

from __future__ import annotations

from messages.ledger import HoldPlaced, HoldRefused, HoldReleased, PayoutCommitted, ReleaseHold
from messages.members import DividendPayoutReleased
from messages.mobile_money import PayoutFailed, PayoutPaid
from messages.notifier import MemberNotified
from messages.saga import DividendPayoutCompleted, DividendPayoutFailed
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

DIVIDEND_PAYOUT_V1 = SagaDefinition(
    name="dividend_payout",
    version=1,
    started_by=DividendPayoutReleased,
    subject=SubjectDefinition(field="member_id", kind="member"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="place_hold",
            service="ledger",
            trigger=DividendPayoutReleased,
            succeeds_with=HoldPlaced,
            rejected_with=HoldRefused,
            compensation=CompensationDefinition(command=ReleaseHold, reply=HoldReleased),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="send_payout",
            service="mobile-money",
            trigger=HoldPlaced,
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
    completed_by=DividendPayoutCompleted,
    failed_by=DividendPayoutFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=90,
    reactions={
        DividendPayoutReleased: ("mobile-money", "notifier"),
        PayoutCommitted: ("members",),
        DividendPayoutFailed: ("mobile-money", "notifier"),
    },
    references=(
        ReferenceDefinition(kind="dividend_line", event=DividendPayoutReleased, field="line_id"),
        ReferenceDefinition(kind="receipt", event=PayoutPaid, field="receipt"),
        ReferenceDefinition(kind="phone", event=DividendPayoutReleased, field="phone", is_personal=True),
    ),
)
