"""The saga of a new merchant: its accounts are opened in the ledger."""

from __future__ import annotations

from messages.ledger import (
    MerchantAccountsOpened,
)
from messages.merchant import (
    MerchantRegistered,
)
from messages.saga import (
    MerchantOnboarded,
    MerchantOnboardingFailed,
)
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

MERCHANT_ONBOARDING_V1 = SagaDefinition(
    name="merchant_onboarding",
    version=1,
    started_by=MerchantRegistered,
    subject=SubjectDefinition(field="merchant_id", kind="merchant"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="open_merchant_accounts",
            service="ledger",
            trigger=MerchantRegistered,
            succeeds_with=MerchantAccountsOpened,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=MerchantOnboarded,
    failed_by=MerchantOnboardingFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=30,
    references=(ReferenceDefinition(kind="merchant", event=MerchantRegistered, field="merchant_id"),),
)
