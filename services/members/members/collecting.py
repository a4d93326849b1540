"""What becomes of collections: the acceptance of a prompt, its receipt, its proven end, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from members import request_tables
from members.attribution import AttributeReceipt, Attribution
from members.domain import CollectionState, collection_state
from members.request_tables import CollectionFacts
from messages.mobile_money import PromptFailed, PromptPaid
from messages.saga import CollectionFailed, StepAwaited

SEND_PROMPT: Final = "send_prompt"

Change = Callable[[CollectionFacts], CollectionFacts]


def note_receipts(tx: Connection, decided: Sequence[tuple[AttributeReceipt, Attribution]]) -> None:
    """Note the receipts of prompts. The first one counts for the screen; a second one is a receipt all the same."""
    changes = [
        (found.collection_id, _received(requested), requested.completed_at)
        for requested, found in decided
        if found.collection_id is not None
    ]
    _apply(tx, changes)


def on_step_awaited(events: Sequence[StepAwaited], tx: Connection) -> None:
    """Note which prompts their providers have taken: an attempt that is merely begun has no reference yet."""
    taken = [each for each in events if each.step == SEND_PROMPT and each.reference is not None and not each.undo]
    _apply(tx, [(event.saga_id, _prompted(event.occurred_at), event.occurred_at) for event in taken])


def on_prompt_paid(events: Sequence[PromptPaid], tx: Connection) -> None:
    """Note that the provider has proven these prompts paid. The money is a receipt's."""
    _apply(tx, [(event.saga_id, _paid(event), event.occurred_at) for event in events])


def on_prompt_failed(events: Sequence[PromptFailed], tx: Connection) -> None:
    """Note why these prompts were not paid. A receipt may come all the same."""
    _apply(tx, [(event.saga_id, _failed(event.reason, event.detail), event.occurred_at) for event in events])


def on_collection_failed(events: Sequence[CollectionFailed], tx: Connection) -> None:
    """Note that the sagas of these prompts ended without their proof: one that was never sent has no other event."""
    _apply(
        tx,
        [(event.saga_id, _failed("not_prompted", event.reason, is_weak=True), event.occurred_at) for event in events],
    )


def _received(requested: AttributeReceipt) -> Change:
    def change(facts: CollectionFacts) -> CollectionFacts:
        if facts.receipt is not None:
            return facts
        return replace(facts, receipt=requested.receipt, received_minor=requested.amount_minor)

    return change


def _prompted(at: datetime) -> Change:
    return lambda facts: replace(facts, prompted_at=facts.prompted_at or at)


def _paid(event: PromptPaid) -> Change:
    return lambda facts: replace(facts, is_paid=True)


def _failed(failure: str, detail: str, *, is_weak: bool = False) -> Change:
    def change(facts: CollectionFacts) -> CollectionFacts:
        if is_weak and (facts.failure is not None or facts.is_paid):
            return facts
        return replace(facts, failure=failure, failure_detail=detail)

    return change


def _apply(tx: Connection, changes: Sequence[tuple[str, Change, datetime]]) -> None:
    """Add facts to collections, whose rows are locked in one order."""
    rows = request_tables.lock_collections(tx, {number for number, _, _ in changes})
    known = {number: _facts(row) for number, row in rows.items()}
    after = dict(known)
    for number, change, at in changes:
        if number in after:
            after[number] = _settled(change(after[number]), at)
    request_tables.save_collections(tx, list(_changed(known, after)))


def _settled(facts: CollectionFacts, at: datetime) -> CollectionFacts:
    state = collection_state(
        receipt=facts.receipt,
        is_paid=facts.is_paid,
        failure=facts.failure,
        is_prompted=facts.prompted_at is not None,
    )
    is_open = state in (CollectionState.REQUESTED, CollectionState.PROMPTED)
    ended_at = None if is_open else facts.ended_at or at
    return replace(facts, state=state.value, ended_at=ended_at)


def _changed(known: Mapping[str, CollectionFacts], after: Mapping[str, CollectionFacts]) -> Iterable[CollectionFacts]:
    return (facts for number, facts in sorted(after.items()) if facts != known[number])


def _facts(row: Any) -> CollectionFacts:
    return CollectionFacts(**{name: getattr(row, name) for name in CollectionFacts.__dataclass_fields__})
