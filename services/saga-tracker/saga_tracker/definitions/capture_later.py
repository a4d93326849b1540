"""The saga of a later capture: capture what was authorized, commit it to the ledger, and notify the merchant."""

from __future__ import annotations

from messages.ledger import (
    CaptureCommitted,
)
from messages.merchant import (
    CaptureRequested,
)
from messages.notifier import (
    CaptureNotified,
)
from messages.payment import (
    LateCaptured,
    LateCaptureFailed,
)
from messages.saga import (
    CaptureCompleted,
    CaptureFailed,
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

CAPTURE_LATER_V1 = SagaDefinition(
    name="capture_later",
    version=1,
    started_by=CaptureRequested,
    subject=SubjectDefinition(field="merchant_id", kind="merchant"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="capture_or_void",
            service="payment",
            trigger=CaptureRequested,
            succeeds_with=LateCaptured,
            rejected_with=LateCaptureFailed,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=86_400, reference="capture"),
        ),
        StepDefinition(
            name="commit_ledger",
            service="ledger",
            trigger=LateCaptured,
            succeeds_with=CaptureCommitted,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="notify_merchant",
            service="notifier",
            trigger=CaptureCommitted,
            succeeds_with=CaptureNotified,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=CaptureCompleted,
    failed_by=CaptureFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=60,
    reactions={
        LateCaptured: ("reconciliation",),
        CaptureCommitted: ("merchant", "reconciliation"),
        CaptureRequested: ("ledger", "notifier"),
        CaptureFailed: ("ledger", "notifier"),
    },
    references=(ReferenceDefinition(kind="payment", event=CaptureRequested, field="payment_id"),),
)
