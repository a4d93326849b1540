"""The saga of a void: cancel its authorization, release what is held, and notify the merchant."""

from __future__ import annotations

from messages.ledger import (
    VoidCommitted,
)
from messages.merchant import (
    VoidRequested,
)
from messages.notifier import (
    VoidNotified,
)
from messages.payment import (
    GatewayVoided,
    GatewayVoidFailed,
)
from messages.saga import (
    VoidCompleted,
    VoidFailed,
)
from saga_tracker.model.saga import (
    AwaitedDefinition,
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

VOID_PAYMENT_V1 = SagaDefinition(
    name="void_payment",
    version=1,
    started_by=VoidRequested,
    subject=SubjectDefinition(field="merchant_id", kind="merchant"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="capture_or_void",
            service="payment",
            trigger=VoidRequested,
            succeeds_with=GatewayVoided,
            rejected_with=GatewayVoidFailed,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=86_400, reference="void"),
        ),
        StepDefinition(
            name="commit_ledger",
            service="ledger",
            trigger=GatewayVoided,
            succeeds_with=VoidCommitted,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="notify_merchant",
            service="notifier",
            trigger=VoidCommitted,
            succeeds_with=VoidNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=VoidCompleted,
    failed_by=VoidFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=60,
    reactions={
        VoidCommitted: ("merchant", "reconciliation"),
        VoidRequested: ("notifier",),
        VoidFailed: ("notifier",),
    },
    references=(ReferenceDefinition(kind="payment", event=VoidRequested, field="payment_id"),),
)
