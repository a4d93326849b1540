"""The ledger's steps in the order saga: a captured payment is posted by the shop's chart, and corrected when undone."""

from __future__ import annotations

from ledger.model.charts import SHOP
from ledger.model.decisions import Loaded, decide
from ledger.model.transfers import Booked, Entry, Origin, Refused, Transfer, TransferKind
from messages.contract import Envelope
from messages.ledger import LedgerPosted, LedgerReversed, ReverseLedger
from messages.payment import PaymentCaptured

POST_LEDGER = "post_ledger"


class NotBooked(RuntimeError):
    """The ledger refused what a step of the order saga requested, which has no rejection; the message says why."""


def posting_reference(saga_id: str) -> str:
    """Return the reference of an order's posting, which is booked once whatever is delivered again."""
    return f"{saga_id}:{POST_LEDGER}"


def posting(event: PaymentCaptured) -> Transfer:
    """Return the transfer of a captured payment; its value date is the capture's."""
    amounts = {"captured": event.amount_minor, "net": event.amount_minor}
    return Transfer(
        reference=posting_reference(event.saga_id),
        entries=SHOP.entries("captured", amounts, event.currency),
        effective_at=event.occurred_at,
        origin=Origin(saga_id=event.saga_id, step=POST_LEDGER, message_id=event.message_id),
    )


def reversal(command: ReverseLedger, entries: tuple[Entry, ...] = ()) -> Transfer:
    """Return the transfer that corrects an order's posting: each of its entries with the other sign."""
    posted = posting_reference(command.saga_id)
    return Transfer(
        reference=f"{posted}:undo",
        kind=TransferKind.CORRECTION,
        of=posted,
        entries=tuple(Entry(each.account, -each.amount_minor, each.currency) for each in entries),
        origin=Origin(saga_id=command.saga_id, step=POST_LEDGER, message_id=command.message_id),
    )


def post(event: PaymentCaptured, loaded: Loaded, envelope: Envelope) -> LedgerPosted:
    """Book a captured payment: a debit of the gateway's receivable, and a credit of sales."""
    _book(posting(event), loaded, envelope)
    return LedgerPosted(**envelope, currency=event.currency, amount_minor=event.amount_minor)


def reverse(command: ReverseLedger, undo: bool, loaded: Loaded, envelope: Envelope) -> LedgerReversed:
    """Correct what the saga posted. Without ``undo`` there is nothing to correct, or it is corrected already."""
    entries = loaded.known[posting_reference(command.saga_id)].entries if undo else ()
    if undo:
        _book(reversal(command, entries), loaded, envelope)
    amount_minor = sum(max(entry.amount_minor, 0) for entry in entries)
    return LedgerReversed(**envelope, step=command.step, undone=undo, amount_minor=amount_minor)


def _book(transfer: Transfer, loaded: Loaded, envelope: Envelope) -> Booked:
    loaded.booked_at = max(loaded.booked_at, envelope["occurred_at"])
    outcome = decide(transfer, loaded)
    if isinstance(outcome, Refused):
        raise NotBooked(f"{transfer.reference} was refused: {outcome.reason}. {outcome.detail}")
    return outcome
