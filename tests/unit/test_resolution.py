"""Sagas whose facts contradict one another: what two operators may resolve, and what follows, by the decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from saga_tracker.definitions import DEFINITIONS
from saga_tracker.model.decision import Cause, Decision, Phase, SagaState
from saga_tracker.model.facts import (
    NOTHING,
    Compensated,
    Fact,
    Fenced,
    Rejected,
    ReplyOverdue,
    Resolution,
    Resolved,
    StepState,
    Succeeded,
    merge_all,
)
from saga_tracker.model.operating import NotRedrivable, redrive
from saga_tracker.model.progress import decide
from saga_tracker.model.records import from_record, to_record
from saga_tracker.model.resolution import NotResolvable, check_resolvable

ORDER = DEFINITIONS["order", 1]
STEPS = tuple(step.name for step in ORDER.steps)
AUTHORIZE, RESERVE, BURN, SHIP, CAPTURE, LEDGER = STEPS
AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
RAN = tuple(Succeeded(step=step) for step in STEPS)
NO_STOCK = Rejected(step=RESERVE, reason="no_stock")
CONTRADICTION: tuple[Fact, ...] = (NO_STOCK, *RAN[:3])
"""The stock was rejected, and the points that come after it were burned."""


def resolved(resolution: Resolution, seconds: float = 0.0) -> Resolved:
    return Resolved(
        at=AT + timedelta(seconds=seconds), resolution=resolution, by="ops-2", proposed_by="ops-1", reason="asked them"
    )


COMPENSATE, CONFIRM = resolved(Resolution.COMPENSATED), resolved(Resolution.CONFIRMED)


def given(*facts: Fact) -> Decision:
    return decide(ORDER, merge_all(NOTHING, facts))


def fences() -> tuple[Fenced, ...]:
    return tuple(
        Fenced(service=service, states=tuple((step, StepState.FENCED) for step in ORDER.steps_of(service)))
        for service in ORDER.services
    )


def refusal(facts: tuple[Fact, ...], resolution: Resolution, published: Resolution | None = None) -> str:
    with pytest.raises(NotResolvable) as error:
        check_resolvable(ORDER, merge_all(NOTHING, facts), resolution, published=published)
    return str(error.value)


def test_without_two_operators_a_contradiction_stays_parked_and_cannot_be_redriven() -> None:
    decision = given(*CONTRADICTION)
    assert (decision.state, decision.commands) == (SagaState.NEEDS_REVIEW, ())
    with pytest.raises(NotRedrivable, match="two operators"):
        redrive(ORDER, merge_all(NOTHING, CONTRADICTION), at=AT, by="ops-1", reason="again")


def test_resolved_as_compensated_it_is_fenced_then_every_step_is_compensated_whatever_is_known_of_it() -> None:
    decision = given(*CONTRADICTION, COMPENSATE)
    assert (decision.state, decision.phase) == (SagaState.PENDING, Phase.FENCING)
    assert {command.service for command in decision.commands} == set(ORDER.services)
    assert decision.failure is not None
    assert (decision.failure.cause, decision.failure.reason) == (Cause.CANCELLED, "ops-1 and ops-2: asked them")
    known: tuple[Fact, ...] = (*CONTRADICTION, COMPENSATE, *fences())
    compensated = []
    while (decision := given(*known)).phase is Phase.COMPENSATING:
        (command,) = decision.commands
        compensated.append(command.step)
        known = (*known, Compensated(step=str(command.step)))
    assert compensated == [LEDGER, SHIP, BURN, RESERVE, AUTHORIZE], "a capture is undone with its authorization"
    assert decision.state is SagaState.CANCELLED_COMPENSATED


def test_a_resolved_saga_is_parked_like_any_other_where_a_reply_does_not_come() -> None:
    overdue = tuple(
        ReplyOverdue(round_="fence", attempt=attempt) for attempt in range(1, ORDER.command_attempts_max + 1)
    )
    decision = given(*CONTRADICTION, COMPENSATE, *overdue)
    assert decision.state is SagaState.NEEDS_REVIEW
    assert redrive(ORDER, merge_all(NOTHING, (*CONTRADICTION, COMPENSATE, *overdue)), at=AT, by="o", reason="r")


def test_resolved_as_confirmed_it_completes() -> None:
    decision = given(NO_STOCK, *RAN, CONFIRM)
    assert (decision.state, decision.phase, decision.commands) == (SagaState.CONFIRMED, Phase.ENDED, ())


def test_the_first_of_two_resolutions_counts_in_any_order() -> None:
    later = resolved(Resolution.CONFIRMED, seconds=1)
    ends = {merge_all(NOTHING, order).resolved for order in permutations((COMPENSATE, later, *CONTRADICTION[:2]))}
    assert ends == {COMPENSATE}


def test_a_resolution_survives_its_record() -> None:
    progress = merge_all(NOTHING, (*CONTRADICTION, COMPENSATE))
    assert from_record(to_record(progress)) == progress


def test_only_a_contradiction_can_be_resolved_once_and_not_against_what_was_published() -> None:
    check_resolvable(ORDER, merge_all(NOTHING, CONTRADICTION), Resolution.COMPENSATED, published=None)
    check_resolvable(ORDER, merge_all(NOTHING, (NO_STOCK, *RAN)), Resolution.CONFIRMED, published=None)
    assert "do not contradict" in refusal(RAN[:2], Resolution.COMPENSATED)
    assert "do not contradict" in refusal((*CONTRADICTION, COMPENSATE), Resolution.COMPENSATED)
    assert "redrive" not in refusal(RAN, Resolution.CONFIRMED, Resolution.CONFIRMED)
    assert "It has ended as CONFIRMED" in refusal(RAN, Resolution.CONFIRMED, Resolution.CONFIRMED)
    assert "book_shipment is not known to have run" in refusal(CONTRADICTION, Resolution.CONFIRMED)
    published = Resolution.CONFIRMED
    assert "published as CONFIRMED" in refusal((NO_STOCK, *RAN), Resolution.COMPENSATED, published)
