"""The ledger's decisions: the two entries of a captured payment, and their reversal. Debits equal credits. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime

from messages.contract import Envelope
from messages.ledger import LedgerPosted, LedgerReversed, ReverseLedger
from messages.payment import PaymentCaptured

GATEWAY_RECEIVABLE = "gateway_receivable"
"""The gateway's debt to us, debited when it captures."""
SALES = "sales"
"""Our sales, credited when the payment is captured."""


class EntryKind(enum.StrEnum):
    """The kind of an entry. A posting happens once and is reversed at most once. Entries never change."""

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
    """The entries that a batch has found and adds."""

    posted: dict[str, list[Entry]] = field(default_factory=dict)
    added: list[Entry] = field(default_factory=list)


def post(event: PaymentCaptured, journal: Journal, envelope: Envelope) -> LedgerPosted:
    """Post a captured amount: a debit of the gateway's receivable, and a credit of sales."""
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
    """Reverse every entry of the saga. Without ``undo`` there is none to reverse, or all are reversed already."""
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
