"""The return saga: approve, collect the parcel, restock, refund the card, credit the points, and post to the ledger.

The courier says days later what became of the parcel. Nothing takes back that it arrived: the return goes forward then.
"""

from __future__ import annotations

from messages.checkout import (
    ReturnApproved,
    ReturnCancellationRequested,
    ReturnRefused,
    ReturnRequested,
    ReturnWithdrawn,
    WithdrawReturn,
)
from messages.inventory import InventoryRestocked
from messages.ledger import ReturnPosted
from messages.loyalty import ReturnPointsCredited
from messages.payment import ReturnRefunded
from messages.saga import ReturnCompleted, ReturnFailed
from messages.shipping import ParcelArrived, ParcelNotCollected
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

RETURN_ORDER_V1 = SagaDefinition(
    name="return_order",
    version=1,
    started_by=ReturnRequested,
    subject=SubjectDefinition(field="customer_id", kind="customer"),
    cancelled_by={ReturnCancellationRequested: "customer"},
    steps=(
        StepDefinition(
            name="approve_return",
            service="checkout",
            trigger=ReturnRequested,
            succeeds_with=ReturnApproved,
            rejected_with=ReturnRefused,
            compensation=CompensationDefinition(command=WithdrawReturn, reply=ReturnWithdrawn),
            timeout_s=15,
            exhausted=Exhausted.PARK,
            holds="approval",
        ),
        StepDefinition(
            name="collect_parcel",
            service="shipping",
            trigger=ReturnApproved,
            succeeds_with=ParcelArrived,
            rejected_with=ParcelNotCollected,
            kind=StepKind.PIVOT,
            timeout_s=20,
            exhausted=Exhausted.PARK,
            awaited=AwaitedDefinition(expected_within_s=7 * 86_400, reference="collection"),
        ),
        StepDefinition(
            name="restock_inventory",
            service="inventory",
            trigger=ParcelArrived,
            succeeds_with=InventoryRestocked,
            kind=StepKind.RETRIABLE,
            timeout_s=15,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="refund_payment",
            service="payment",
            trigger=InventoryRestocked,
            succeeds_with=ReturnRefunded,
            kind=StepKind.RETRIABLE,
            timeout_s=20,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="restore_loyalty_points",
            service="loyalty",
            trigger=ReturnRefunded,
            succeeds_with=ReturnPointsCredited,
            kind=StepKind.RETRIABLE,
            timeout_s=15,
            exhausted=Exhausted.PARK,
        ),
        StepDefinition(
            name="post_ledger",
            service="ledger",
            trigger=ReturnPointsCredited,
            succeeds_with=ReturnPosted,
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=ReturnCompleted,
    failed_by=ReturnFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=120,
    reactions={ParcelArrived: ("checkout",)},
    references=(
        ReferenceDefinition(kind="order", event=ReturnRequested, field="order_id"),
        ReferenceDefinition(kind="collection", event=ParcelArrived, field="collection_id"),
        ReferenceDefinition(kind="refund", event=ReturnRefunded, field="refund_id"),
    ),
)
