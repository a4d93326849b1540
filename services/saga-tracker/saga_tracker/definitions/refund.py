"""The refund saga: hold the merchant's amount, refund at the gateway, commit, and notify the merchant."""

from __future__ import annotations

from messages.ledger import (
    BalanceReleased,
    RefundCommitted,
    RefundRejected,
    RefundReserved,
    ReleaseBalance,
)
from messages.merchant import (
    RefundRequested,
)
from messages.notifier import (
    RefundNotified,
)
from messages.payment import (
    GatewayRefunded,
    GatewayRefundFailed,
)
from messages.saga import (
    RefundCompleted,
    RefundFailed,
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

REFUND_V1 = SagaDefinition(
    name="refund",
    version=1,
    started_by=RefundRequested,
    subject=SubjectDefinition(field="merchant_id", kind="merchant"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="reserve_balance",
            service="ledger",
            trigger=RefundRequested,
            succeeds_with=RefundReserved,
            rejected_with=RefundRejected,
            compensation=CompensationDefinition(command=ReleaseBalance, reply=BalanceReleased),
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="refund_gateway",
            service="payment",
            trigger=RefundReserved,
            succeeds_with=GatewayRefunded,
            rejected_with=GatewayRefundFailed,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=7 * 86_400, reference="refund"),
        ),
        StepDefinition(
            name="commit_ledger",
            service="ledger",
            trigger=GatewayRefunded,
            succeeds_with=RefundCommitted,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="notify_merchant",
            service="notifier",
            trigger=RefundCommitted,
            succeeds_with=RefundNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=RefundCompleted,
    failed_by=RefundFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=90,
    reactions={
        GatewayRefunded: ("reconciliation",),
        RefundCommitted: ("merchant", "reconciliation"),
        RefundRequested: ("notifier",),
        RefundFailed: ("notifier",),
    },
    references=(
        ReferenceDefinition(kind="payment", event=RefundRequested, field="payment_id"),
        ReferenceDefinition(kind="merchant_refund", event=RefundRequested, field="refund_id"),
        ReferenceDefinition(kind="gateway_refund", event=GatewayRefunded, field="gateway_refund_id"),
    ),
)
