"""What the ledger decides: the two entries of a captured payment, and their opposites. Debits equal credits. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from messages.contract import Envelope
from messages.ledger import LedgerPosted, LedgerReversed, ReverseLedger
from messages.payment import PaymentCaptured

GATEWAY_RECEIVABLE = "gateway_receivable"
"""What the gateway owes us: debited when it settles."""
SALES = "sales"
"""What we sold: credited when the money is certain."""


class EntryKind(enum.StrEnum):
    """An entry is posted once and may be reversed once; none is ever changed."""

    POST = "POST"
    REVERSE = "REVERSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One side of a posting, in minor units."""

    saga_id: str
    kind: EntryKind
    account: str
    debit_minor: int
    credit_minor: int
    currency: str
    posted_at: datetime


@dataclass(slots=True)
class Journal:
    """The entries that a batch finds and adds."""

    posted: dict[str, list[Entry]] = field(default_factory=dict)
    added: list[Entry] = field(default_factory=list)


def post(event: PaymentCaptured, journal: Journal, envelope: Envelope) -> LedgerPosted:
    """Post a settled amount: the gateway owes it, and it is sold."""
    for account, debit_minor, credit_minor in (
        (GATEWAY_RECEIVABLE, event.amount_minor, 0),
        (SALES, 0, event.amount_minor),
    ):
        journal.added.append(
            Entry(
                saga_id=event.saga_id,
                kind=EntryKind.POST,
                account=account,
                debit_minor=debit_minor,
                credit_minor=credit_minor,
                currency=event.currency,
                posted_at=envelope["occurred_at"],
            )
        )
    return LedgerPosted(**envelope, currency=event.currency, amount_minor=event.amount_minor)


def reverse(command: ReverseLedger, undo: bool, journal: Journal, envelope: Envelope) -> LedgerReversed:
    """Add the opposite of every entry of the saga; without ``undo`` there is none to reverse, or none any more."""
    entries = journal.posted[command.saga_id] if undo else []
    journal.added.extend(
        Entry(
            saga_id=entry.saga_id,
            kind=EntryKind.REVERSE,
            account=entry.account,
            debit_minor=entry.credit_minor,
            credit_minor=entry.debit_minor,
            currency=entry.currency,
            posted_at=envelope["occurred_at"],
        )
        for entry in entries
    )
    amount_minor = sum(entry.debit_minor for entry in entries)
    return LedgerReversed(**envelope, step=command.step, undone=undo, amount_minor=amount_minor)
