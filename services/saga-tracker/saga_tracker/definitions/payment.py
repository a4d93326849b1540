"""The payment saga: validate, reserve, authorize, capture, commit to the ledger, and notify the merchant.

The gateway says so when a capture is proven. Where the merchant captures later, the saga ends with the authorization.
"""

from __future__ import annotations

from messages.ledger import (
    BalanceRejected,
    BalanceReleased,
    BalanceReserved,
    PaymentCommitted,
    ReleaseBalance,
)
from messages.merchant import (
    PaymentCancellationRequested,
    PaymentSubmitted,
)
from messages.notifier import (
    PaymentNotified,
)
from messages.payment import (
    AuthorizationVoided,
    GatewayAuthorized,
    GatewayCaptured,
    GatewayCaptureFailed,
    GatewayDeclined,
    VoidAuthorization,
)
from messages.risk import (
    PaymentBlocked,
    PaymentValidated,
    ValidationWithdrawn,
    WithdrawValidation,
)
from messages.saga import (
    PaymentCompleted,
    PaymentFailed,
)
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

PAYMENT_V1 = SagaDefinition(
    name="payment",
    version=1,
    started_by=PaymentSubmitted,
    subject=SubjectDefinition(field="merchant_id", kind="merchant"),
    cancelled_by={PaymentCancellationRequested: "merchant"},
    steps=(
        StepDefinition(
            name="validate_payment",
            service="risk",
            trigger=PaymentSubmitted,
            succeeds_with=PaymentValidated,
            rejected_with=PaymentBlocked,
            compensation=CompensationDefinition(command=WithdrawValidation, reply=ValidationWithdrawn),
            timeout_s=15,
            exhausted=Exhausted.PARK,
            holds="validation",
        ),
        StepDefinition(
            name="reserve_balance",
            service="ledger",
            trigger=PaymentValidated,
            succeeds_with=BalanceReserved,
            rejected_with=BalanceRejected,
            compensation=CompensationDefinition(command=ReleaseBalance, reply=BalanceReleased),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="authorize_gateway",
            service="payment",
            trigger=BalanceReserved,
            succeeds_with=GatewayAuthorized,
            rejected_with=GatewayDeclined,
            compensation=CompensationDefinition(command=VoidAuthorization, reply=AuthorizationVoided),
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=900, reference="authorization"),
        ),
        StepDefinition(
            name="capture_or_void",
            service="payment",
            trigger=GatewayAuthorized,
            succeeds_with=GatewayCaptured,
            rejected_with=GatewayCaptureFailed,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=86_400, reference="capture"),
        ),
        StepDefinition(
            name="commit_ledger",
            service="ledger",
            trigger=GatewayCaptured,
            succeeds_with=PaymentCommitted,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="notify_merchant",
            service="notifier",
            trigger=PaymentCommitted,
            succeeds_with=PaymentNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=PaymentCompleted,
    failed_by=PaymentFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=180,
    reactions={
        GatewayAuthorized: ("merchant",),
        GatewayCaptured: ("merchant", "reconciliation"),
        PaymentCommitted: ("merchant", "reconciliation"),
        PaymentSubmitted: ("notifier",),
        PaymentFailed: ("notifier",),
    },
    references=(
        ReferenceDefinition(kind="payment", event=PaymentSubmitted, field="payment_id"),
        ReferenceDefinition(kind="gateway_payment", event=GatewayAuthorized, field="gateway_payment_id"),
    ),
)
