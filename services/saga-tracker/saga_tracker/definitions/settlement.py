"""The settlement saga: what a gateway paid for a batch, and what it kept, is posted.

The money is on the bank account already, so nothing rejects it, and lateness does not stop it.
"""

from __future__ import annotations

from messages.ledger import (
    SettlementPosted,
)
from messages.reconciliation import (
    SettlementReported,
)
from messages.saga import (
    SettlementCompleted,
    SettlementFailed,
)
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

SETTLEMENT_V1 = SagaDefinition(
    name="settlement",
    version=1,
    started_by=SettlementReported,
    subject=SubjectDefinition(field="gateway_account", kind="account"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="post_settlement",
            service="ledger",
            trigger=SettlementReported,
            succeeds_with=SettlementPosted,
            kind=StepKind.PIVOT,
            timeout_s=7 * 86_400,
            exhausted=Exhausted.PARK,
            forward_only=True,
        ),
    ),
    completed_by=SettlementCompleted,
    failed_by=SettlementFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=7 * 86_400,
    references=(ReferenceDefinition(kind="settlement", event=SettlementReported, field="batch"),),
)
