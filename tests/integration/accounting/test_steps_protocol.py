"""Holds, posts, voids and corrections of many sagas, in whatever order, batches and number of times they come.

A crash before the commit loses a batch, which then comes again. Whatever happens: every transfer is balanced, no strict
account is below zero, a hold is resolved once at most, and an effect that is undone has left nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.wire.envelope import new_id
from ledger.domain import HOLD_MANUAL_POSTING, POST_MANUAL_POSTING
from messages.contract import Message
from messages.ledger import (
    CorrectManualPosting,
    ManualPostingApproved,
    ManualPostingHeld,
    VoidManualPosting,
)
from messages.saga import FenceSaga
from support.builders import a
from support.ledger_steps import Crash, handle
from support.ledgers import FUNDING, LedgerUnderTest, member, reference

SAGAS = 3
FUNDS, AMOUNT = 1_000, 400
"""Two holds fit, a third does not."""
STEPS = [HOLD_MANUAL_POSTING, POST_MANUAL_POSTING]
UNDONE = """
    SELECT saga_id, sum(amount_minor) FILTER (WHERE amount_minor > 0 AND NOT is_hold)
    FROM transfers JOIN transfer_entries ON transfer_id = transfers.id
    WHERE saga_id = ANY(:ids) AND kind IN ('POST', 'CORRECTION') GROUP BY saga_id
"""
OPEN_HOLDS = """
    SELECT saga_id FROM transfers AS hold WHERE kind = 'HOLD' AND saga_id = ANY(:ids)
    AND NOT EXISTS (SELECT FROM transfers WHERE of_id = hold.id AND kind IN ('POST', 'VOID'))
"""
EFFECTS = "SELECT saga_id, step, state FROM effects WHERE saga_id = ANY(:ids)"
RESOLVED_TWICE = "SELECT of_id FROM transfers WHERE kind IN ('POST', 'VOID') GROUP BY of_id HAVING count(*) > 1"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of one saga, by the name of its kind."""

    saga: int
    kind: str


@dataclass(slots=True)
class Sagas:
    """The messages of some sagas on one account; a message keeps its id however often it comes."""

    payer: str
    ids: list[str] = field(default_factory=lambda: [new_id() for _ in range(SAGAS)])
    made: dict[Delivery, Message] = field(default_factory=dict)

    def message(self, delivery: Delivery) -> Message:
        if delivery not in self.made:
            self.made[delivery] = self._make(delivery)
        return self.made[delivery]

    def _make(self, delivery: Delivery) -> Message:
        saga = {"saga_id": self.ids[delivery.saga], "saga_type": "manual_posting"}
        sides = ((self.payer, AMOUNT), (FUNDING, -AMOUNT))
        entries = [{"account": path, "amount_minor": amount, "currency": "KES"} for path, amount in sides]
        match delivery.kind:
            case "approved":
                return a(ManualPostingApproved, entries=entries, proposed_by="ann", approved_by="ben", **saga)
            case "held":
                return a(ManualPostingHeld, **saga)
            case "void":
                return a(VoidManualPosting, step=HOLD_MANUAL_POSTING, **saga)
            case "correct":
                return a(CorrectManualPosting, step=POST_MANUAL_POSTING, **saga)
        return a(FenceSaga, steps=STEPS, **saga)


def possible(delivery: Delivery, has_held: set[int], has_corrected: set[int]) -> bool:
    """Return whether our protocol can send it: a post only after its hold, a void only once the post is undone."""
    if delivery.kind == "held":
        return delivery.saga in has_held
    return delivery.kind != "void" or delivery.saga in has_corrected


batches = st.lists(
    st.tuples(
        st.lists(
            st.builds(
                Delivery,
                st.integers(0, SAGAS - 1),
                st.sampled_from(["approved", "approved", "approved", "held", "correct", "void", "void", "fence"]),
            ),
            min_size=2,
            max_size=6,
        ),
        st.booleans(),
    ),
    min_size=5,
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=batches)
def test_whatever_comes_in_whatever_order_the_books_are_right(
    ledger: LedgerUnderTest, schedule: Sequence[tuple[Sequence[Delivery], bool]]
) -> None:
    sagas = Sagas(member(reference()))
    ledger.fund(sagas.payer, FUNDS)
    held: set[int] = set()
    corrected: set[int] = set()
    for deliveries, crashes in schedule:
        sent = [each for each in deliveries if possible(each, held, corrected)]
        messages = [sagas.message(each) for each in sent]
        if crashes:
            with contextlib.suppress(Crash):
                handle(ledger, *messages, crash=True)
        answers = handle(ledger, *messages)
        number = {saga_id: index for index, saga_id in enumerate(sagas.ids)}
        held |= {number[each.saga_id] for each in answers if isinstance(each, ManualPostingHeld)}
        corrected |= {each.saga for each in sent if each.kind == "correct"}
        debits, credits_, held_debits, _ = ledger.totals()[sagas.payer]
        assert credits_ - debits - held_debits >= 0
    check(ledger, sagas)


def check(ledger: LedgerUnderTest, sagas: Sagas) -> None:
    """An effect and what it booked agree, saga by saga."""
    ledger.check()
    assert ledger.rows(RESOLVED_TWICE) == []
    states = {(saga_id, step): state for saga_id, step, state in ledger.rows(EFFECTS, ids=sagas.ids)}
    posted = dict(ledger.rows(UNDONE, ids=sagas.ids))
    open_holds = {saga_id for (saga_id,) in ledger.rows(OPEN_HOLDS, ids=sagas.ids)}
    for saga_id in sagas.ids:
        post, hold = (states.get((saga_id, step)) for step in reversed(STEPS))
        assert posted.get(saga_id, 0) == {"DONE": AMOUNT, "UNDONE": 2 * AMOUNT}.get(post or "", 0), (hold, post)
        assert (saga_id in open_holds) == (hold == "DONE" and post not in ("DONE", "UNDONE")), (hold, post)
