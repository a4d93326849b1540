"""What the ledger's steps book, by the charts of accounts, and what they report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.model.charts import SHOP
from ledger.model.people import is_one_person
from ledger.model.transfers import Entry, Transfer, TransferKind, reference_of
from messages.contract import Envelope
from messages.ledger import (
    CorrectManualPosting,
    LedgerPosted,
    LedgerReversed,
    ManualPostingApproved,
    ManualPostingCorrected,
    ManualPostingHeld,
    ManualPostingPosted,
    ManualPostingVoided,
    ReverseLedger,
    VoidManualPosting,
)
from messages.payment import PaymentCaptured

HOLD_MANUAL_POSTING: Final = "hold_manual_posting"
POST_MANUAL_POSTING: Final = "post_manual_posting"
UNNAMED: Final = ""
"""The reference of a transfer until its step names it."""


def posting(event: PaymentCaptured) -> Transfer:
    """Return the transfer of a captured payment; its value date is the capture's.

    The gateway owes us what it captured, the points that paid the rest are a smaller liability, and both are sales.
    """
    amounts = {"captured": event.amount_minor, "net": event.amount_minor + event.points_minor}
    points = {"points": event.points_minor} if event.points_minor else {}
    return Transfer(
        reference=UNNAMED,
        entries=SHOP.entries("captured", amounts | points, event.currency),
        effective_at=event.occurred_at,
    )


def posted(event: PaymentCaptured, envelope: Envelope) -> LedgerPosted:
    """Report that a captured payment is posted."""
    return LedgerPosted(**envelope, currency=event.currency, amount_minor=event.amount_minor)


def reversed_(command: ReverseLedger, undo: bool, entries: Sequence[Entry], envelope: Envelope) -> LedgerReversed:
    """Report that an order's posting is corrected. Without ``undo`` there is nothing to correct, or it is already."""
    amount_minor = sum(max(entry.amount_minor, 0) for entry in entries)
    return LedgerReversed(**envelope, step=command.step, undone=undo, amount_minor=amount_minor)


class OnePerson(ValueError):
    """A manual posting was approved by its proposer. Our API publishes no such event; find out who did."""


def manual_hold(event: ManualPostingApproved) -> Transfer:
    """Return the hold of an approved manual posting. What it needs is there afterwards, so its post is not rejected.

    Raises OnePerson, which parks the saga.
    """
    if is_one_person(event.approved_by, event.proposed_by):
        raise OnePerson(f"{event.approved_by} proposed and approved manual posting {event.saga_id}.")
    return Transfer(
        reference=UNNAMED,
        kind=TransferKind.HOLD,
        entries=entries_of(event),
        effective_at=event.effective_at,
    )


def entries_of(event: ManualPostingApproved) -> tuple[Entry, ...]:
    """Return the entries of a manual posting."""
    return tuple(Entry(each.account, each.amount_minor, each.currency) for each in event.entries)


def manually_held(event: ManualPostingApproved, envelope: Envelope) -> ManualPostingHeld:
    """Report that a manual posting is held."""
    return ManualPostingHeld(**envelope, effective_at=event.effective_at)


def manually_voided(
    command: VoidManualPosting, undo: bool, _entries: Sequence[Entry], envelope: Envelope
) -> ManualPostingVoided:
    """Report that nothing is held for a manual posting any more."""
    return ManualPostingVoided(**envelope, step=command.step, undone=undo)


def manual_post(event: ManualPostingHeld) -> Transfer:
    """Return the post of everything that is held for a manual posting."""
    return Transfer(
        reference=UNNAMED,
        kind=TransferKind.POST,
        of=reference_of(event.saga_id, HOLD_MANUAL_POSTING),
        effective_at=event.effective_at,
    )


def manually_posted(event: ManualPostingHeld, envelope: Envelope) -> ManualPostingPosted:
    """Report that a manual posting stands in the ledger."""
    return ManualPostingPosted(**envelope, reference=reference_of(event.saga_id, POST_MANUAL_POSTING))


def manually_corrected(
    command: CorrectManualPosting, undo: bool, _entries: Sequence[Entry], envelope: Envelope
) -> ManualPostingCorrected:
    """Report that a manual posting is corrected."""
    return ManualPostingCorrected(**envelope, step=command.step, undone=undo)
