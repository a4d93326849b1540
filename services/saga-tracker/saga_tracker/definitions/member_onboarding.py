"""The saga of a new member: the accounts are opened in the ledger."""

from __future__ import annotations

from messages.ledger import MemberAccountsOpened
from messages.members import MemberRegistered
from messages.saga import MemberOnboarded, MemberOnboardingFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

MEMBER_ONBOARDING_V1 = SagaDefinition(
    name="member_onboarding",
    version=1,
    started_by=MemberRegistered,
    subject=SubjectDefinition(field="member_id", kind="member"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="open_member_accounts",
            service="ledger",
            trigger=MemberRegistered,
            succeeds_with=MemberAccountsOpened,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=MemberOnboarded,
    failed_by=MemberOnboardingFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=30,
    reactions={
        MemberRegistered: ("notifier",),
    },
    references=(
        ReferenceDefinition(kind="member", event=MemberRegistered, field="member_id"),
        ReferenceDefinition(kind="phone", event=MemberRegistered, field="phone", is_personal=True),
    ),
)
