"""The manual posting saga: what two people agreed on is held, and then posted."""

from __future__ import annotations

from typing import Final

from chassis.values.people import is_one_person
from ledger.domain import HOLD_MANUAL_POSTING, POST_MANUAL_POSTING, UNNAMED, transfer_trigger
from ledger.model.transfers import Entry, Transfer, TransferKind, reference_of
from messages.contract import Envelope
from messages.ledger import ManualPostingApproved, ManualPostingHeld, ManualPostingPosted, ManualPostingRejected

SAGAS: Final = frozenset({("manual_posting", 1)})


class OnePerson(ValueError):
    """A manual posting was approved by its proposer. Our API publishes no such event; find out who did."""


def hold(event: ManualPostingApproved) -> Transfer:
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


def held(event: ManualPostingApproved, envelope: Envelope) -> ManualPostingHeld:
    """Report that a manual posting is held."""
    return ManualPostingHeld(**envelope, effective_at=event.effective_at)


def post(event: ManualPostingHeld) -> Transfer:
    """Return the post of everything that is held for a manual posting."""
    return Transfer(
        reference=UNNAMED,
        kind=TransferKind.POST,
        of=reference_of(event.saga_id, HOLD_MANUAL_POSTING),
        effective_at=event.effective_at,
    )


def posted(event: ManualPostingHeld, envelope: Envelope) -> ManualPostingPosted:
    """Report that a manual posting stands in the ledger."""
    return ManualPostingPosted(**envelope, reference=reference_of(event.saga_id, POST_MANUAL_POSTING))


HOLDING = transfer_trigger(
    saga="manual_posting",
    versions=(1,),
    on=ManualPostingApproved,
    transfer=hold,
    succeeded=held,
    succeeds_with=ManualPostingHeld,
    rejected_with=ManualPostingRejected,
)
POSTING = transfer_trigger(
    saga="manual_posting",
    versions=(1,),
    on=ManualPostingHeld,
    transfer=post,
    succeeded=posted,
    succeeds_with=ManualPostingPosted,
)
