"""The order saga: authorize the card, reserve the stock, burn the points, ship, capture, and post to the ledger."""

from __future__ import annotations

from messages.checkout import OrderCancellationRequested, OrderSubmitted
from messages.inventory import InventoryRejected, InventoryReleased, InventoryReserved, ReleaseInventory
from messages.ledger import LedgerPosted, LedgerReversed, ReverseLedger
from messages.loyalty import LoyaltyPointsBurned, LoyaltyPointsRejected, LoyaltyPointsRestored, RestoreLoyaltyPoints
from messages.payment import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentDeclined,
    PaymentRefunded,
    RefundPayment,
)
from messages.saga import OrderConfirmed, OrderFailed
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from saga_tracker.model.saga import (
    CompensationDefinition,
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

ORDER_V1 = SagaDefinition(
    name="order",
    version=1,
    started_by=OrderSubmitted,
    subject=SubjectDefinition(field="customer_id", kind="customer"),
    cancelled_by={OrderCancellationRequested: "customer"},
    steps=(
        StepDefinition(
            name="authorize_payment",
            service="payment",
            trigger=OrderSubmitted,
            succeeds_with=PaymentAuthorized,
            rejected_with=PaymentDeclined,
            compensation=CompensationDefinition(command=RefundPayment, reply=PaymentRefunded),
            timeout_s=20,
            exhausted=Exhausted.COMPENSATE,
        ),
        StepDefinition(
            name="reserve_inventory",
            service="inventory",
            trigger=PaymentAuthorized,
            succeeds_with=InventoryReserved,
            rejected_with=InventoryRejected,
            compensation=CompensationDefinition(command=ReleaseInventory, reply=InventoryReleased),
            timeout_s=15,
            exhausted=Exhausted.PARK,
            holds="reservation",
        ),
        StepDefinition(
            name="burn_loyalty_points",
            service="loyalty",
            trigger=InventoryReserved,
            succeeds_with=LoyaltyPointsBurned,
            rejected_with=LoyaltyPointsRejected,
            compensation=CompensationDefinition(command=RestoreLoyaltyPoints, reply=LoyaltyPointsRestored),
            timeout_s=15,
            exhausted=Exhausted.PARK,
            holds="burn",
        ),
        StepDefinition(
            name="book_shipment",
            service="shipping",
            trigger=LoyaltyPointsBurned,
            succeeds_with=ShipmentBooked,
            rejected_with=ShipmentRejected,
            compensation=CompensationDefinition(command=CancelShipment, reply=ShipmentCancelled),
            timeout_s=20,
            exhausted=Exhausted.COMPENSATE,
            holds="shipment",
        ),
        StepDefinition(
            name="capture_payment",
            service="payment",
            trigger=ShipmentBooked,
            succeeds_with=PaymentCaptured,
            rejected_with=PaymentCaptureFailed,
            undone_by="authorize_payment",
            kind=StepKind.PIVOT,
            timeout_s=20,
            exhausted=Exhausted.COMPENSATE,
        ),
        StepDefinition(
            name="post_ledger",
            service="ledger",
            trigger=PaymentCaptured,
            succeeds_with=LedgerPosted,
            compensation=CompensationDefinition(command=ReverseLedger, reply=LedgerReversed),
            kind=StepKind.RETRIABLE,
            timeout_s=30,
            exhausted=Exhausted.PARK,
            holds="entries",
        ),
    ),
    completed_by=OrderConfirmed,
    failed_by=OrderFailed,
    # Longer than a service takes to settle a call that was under way: the call's deadline and the query after it.
    reply_timeout_s=30,
    command_attempts_max=5,
    # The most that customers wait for an answer while every service is there: the steps' timeouts stay within it.
    deadline_s=180,
    references=(
        ReferenceDefinition(kind="payment", event=PaymentAuthorized, field="authorization_id"),
        ReferenceDefinition(kind="shipment", event=ShipmentBooked, field="tracking_number"),
    ),
)
