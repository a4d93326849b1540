"""The saga of what a gateway takes back unasked: book it, and notify the merchant.

The gateway has done it already. So nothing rejects it, and once it is booked nothing stops its saga.
"""

from __future__ import annotations

from chassis.saga.retry import RetryPolicy
from messages.ledger import (
    ReversalPosted,
)
from messages.notifier import (
    ReversalNotified,
)
from messages.payment import (
    ReversalReported,
)
from messages.saga import (
    ReversalCompleted,
    ReversalFailed,
)
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

PAYMENT_REVERSAL_V1 = SagaDefinition(
    name="payment_reversal",
    version=1,
    started_by=ReversalReported,
    subject=SubjectDefinition(field="merchant_id", kind="merchant"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="post_reversal",
            service="ledger",
            trigger=ReversalReported,
            succeeds_with=ReversalPosted,
            kind=StepKind.PIVOT,
            # What it is about may still be booked by another saga, for which the ledger waits: four minutes and a half.
            timeout_s=7 * 86_400,
            retry=RetryPolicy(attempts_max=8),
            exhausted=Exhausted.PARK,
            forward_only=True,
        ),
        StepDefinition(
            name="notify_merchant",
            service="notifier",
            trigger=ReversalPosted,
            succeeds_with=ReversalNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=ReversalCompleted,
    failed_by=ReversalFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=7 * 86_400,
    reactions={
        ReversalReported: ("reconciliation",),
        ReversalPosted: ("merchant", "reconciliation"),
    },
    references=(
        ReferenceDefinition(kind="payment", event=ReversalReported, field="payment_id"),
        ReferenceDefinition(kind="gateway_reversal", event=ReversalReported, field="gateway_reference"),
    ),
)
