"""The dividend run saga: the total that two persons approved is declared."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.dividends import DeclareDividend
from messages.ledger import DividendDeclared, DividendRefused
from messages.members import DividendRunApproved


def declare(event: DividendRunApproved, step: str) -> DeclareDividend:
    """Return what a run declares."""
    return DeclareDividend(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        run_id=event.run_id,
        currency=event.currency,
        gross_minor=event.gross_minor,
    )


DECLARING = sacco_trigger(
    saga="dividend_run",
    on=DividendRunApproved,
    read=declare,
    succeeds_with=DividendDeclared,
    rejected_with=DividendRefused,
)
