"""References that take no payment any more, as other services have published them: a loan of which nothing is owed.

A validation reads them. What is not among them is accepted, for money in suspense is better off than a payer who is
refused at the counter: a reference that is new, or whose end is not known here yet, is never refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Column, Connection, DateTime, Engine, Table, Text

from chassis.postgres.statement import Statement
from chassis.values import bill_reference
from mobile_money.tables import metadata

LOAN_PAID: Final = "loan_paid"

closed_references = Table(
    "closed_references",
    metadata,
    Column("reference", Text, primary_key=True, comment="in capitals, without blanks and signs"),
    Column("reason", Text, nullable=False),
    Column("closed_at", DateTime(timezone=True), nullable=False),
)

CLOSE: Final = Statement("""
    INSERT INTO closed_references (reference, reason, closed_at)
    SELECT reference, %(reason)s, closed_at
    FROM unnest(CAST(%(references)s AS text[]), CAST(%(times)s AS timestamptz[])) AS row (reference, closed_at)
    ORDER BY reference
    ON CONFLICT (reference) DO NOTHING
""")
FIND: Final = Statement("SELECT reason FROM closed_references WHERE reference = %(reference)s")


def on_allocated(events: Sequence[Any], tx: Connection) -> None:
    """Close the references of the loans that are paid by what these events allocate."""
    paid = {
        bill_reference.normal(each.loan_id): event.occurred_at
        for event in events
        for each in event.loans
        if each.is_paid
    }
    if paid:
        CLOSE.run(tx, {"reason": LOAN_PAID, "references": list(paid), "times": list(paid.values())})


def reason_of(engine: Engine, reference: str) -> str | None:
    """Return why a reference takes no payment any more; None where that is not known."""
    with engine.connect() as tx:
        rows = FIND.rows(tx, {"reference": bill_reference.normal(reference)})
    return str(rows[0].reason) if rows else None
