"""The sagas in which the ledger publishes that a loan is paid: from then on its reference takes no payment."""

from __future__ import annotations

from typing import Any, Final

from messages.ledger import AssignedReceiptAllocated, ReceiptAllocated, RepaymentPosted

EVENTS: Final[tuple[tuple[type[Any], str], ...]] = (
    (ReceiptAllocated, "receipt"),
    (AssignedReceiptAllocated, "suspense_allocation"),
    (RepaymentPosted, "loan_repayment"),
)
"""What says of loans that they are paid, each with its saga."""
