"""The tracker's decisions about a step whose outcome comes later, rule by rule: given facts, expect a decision."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from proof.awaited_models import CARD_3, CARD_TIMED_3, COMMIT, PAYOUT, PAYOUT_3, undoable, without_return
from proof.models import AUTHORIZE, BURN, RESERVE, chain
from saga_tracker.model.contradictions import Contradicted
from saga_tracker.model.decision import Decision, Phase, SagaState
from saga_tracker.model.facts import (
    NOTHING,
    Awaited,
    Cancelled,
    CommandDead,
    Compensated,
    EvidenceOverdue,
    Fact,
    Fenced,
    Progress,
    RedriveOutcome,
    Rejected,
    ReplyOverdue,
    RetriesExhausted,
    StepRedriven,
    StepState,
    Succeeded,
    TimedOut,
    merge_all,
)
from saga_tracker.model.operating import (
    NothingToSettle,
    NotRedrivable,
    StepOutcome,
    admits,
    admitted,
    marked,
    outcomes,
    redrive,
    settle,
)
from saga_tracker.model.progress import decide, ran_count_of
from saga_tracker.model.records import from_record, to_record
from saga_tracker.model.saga import Exhausted, InvalidDefinition, SagaDefinition, StepKind, scaled

AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
CANCELLED = Cancelled(at=AT, by="support-7", reason="the customer called")
PAY, CARD = PAYOUT.name, AUTHORIZE.name
PAY_AWAITED, CARD_AWAITED = Awaited(step=PAY, attempt=1), Awaited(step=CARD, attempt=1)
PAID_AFTER_ALL = Contradicted(step=PAY, attempt=1, reason="published as failed, paid by statement")
LADDER_ENDED = RetriesExhausted(step=PAY, reason="queried 41 times in 7 days")


def known(*facts: Fact) -> Progress:
    """Return what these facts lead to in every order, stored and read back."""
    orders = list(permutations(facts)) if len(facts) <= 5 else [facts, tuple(reversed(facts))]
    found = {str(sorted(to_record(merge_all(NOTHING, order)).items())) for order in orders}
    assert len(found) == 1
    progress = merge_all(NOTHING, facts)
    assert from_record(to_record(progress)) == progress
    return progress


def given(definition: SagaDefinition, *facts: Fact) -> Decision:
    return decide(definition, known(*facts))


def fenced(definition: SagaDefinition, **states: StepState) -> tuple[Fact, ...]:
    """Return the replies of all services that are fenced; a step whose state is not given is FENCED."""
    return tuple(
        Fenced(
            service=service,
            states=tuple((step, states.get(step, StepState.FENCED)) for step in definition.fenced_steps_of(service)),
        )
        for service in definition.fenced_services
    )


IN_DOUBT = fenced(PAYOUT_3, reserve_inventory=StepState.DONE, book_shipment=StepState.IN_DOUBT)
CARD_IN_DOUBT = fenced(CARD_3, reserve_inventory=StepState.DONE, authorize_payment=StepState.IN_DOUBT)


# What is known


@pytest.mark.parametrize("definition", [PAYOUT_3, CARD_3])
def test_an_awaited_step_proves_that_every_step_before_it_ran(definition: SagaDefinition) -> None:
    step = definition.steps[1].name
    assert ran_count_of(definition, known(Awaited(step=step, attempt=1))) == 1
    doubt = Fenced(service=definition.steps[1].service, states=((step, StepState.IN_DOUBT),))
    assert ran_count_of(definition, known(doubt)) == 1


def test_doubt_is_open_until_any_settled_state_is_known_in_whatever_order() -> None:
    for settled in (
        Succeeded(step=PAY),
        Rejected(step=PAY, reason="no"),
        Fenced(service="shipping", states=((PAY, StepState.FENCED),)),
    ):
        assert known(*IN_DOUBT).open_doubt == {PAY}
        assert known(*IN_DOUBT, settled).open_doubt == set()


# Row 2: behind a step without a return


def test_behind_the_step_without_a_return_the_saga_goes_forward_whatever_else_is_known() -> None:
    facts = (Succeeded(step=PAY), CANCELLED, TimedOut(step=PAY), *IN_DOUBT)
    decision = given(PAYOUT_3, *facts)
    assert (decision.phase, decision.step, decision.failure) == (Phase.RUNNING, COMMIT.name, None)
    assert decision.commands == ()
    assert decision.cancellation_lost
    confirmed = given(PAYOUT_3, *facts, Succeeded(step=COMMIT.name))
    assert (confirmed.state, confirmed.cancellation_lost) == (SagaState.CONFIRMED, True)


def test_a_late_step_behind_it_parks_and_goes_on_by_itself() -> None:
    late = (Succeeded(step=PAY), TimedOut(step=COMMIT.name))
    decision = given(PAYOUT_3, *late)
    assert (decision.parked, decision.waiting, decision.commands) == ("commit_payout is late", None, ())
    assert given(PAYOUT_3, *late, Succeeded(step=COMMIT.name)).state is SagaState.CONFIRMED
    act = redrive(PAYOUT_3, known(*late), at=AT, by="ops-3", reason="looked")
    assert act.round_ == "redrive:commit_payout"
    (command,) = given(PAYOUT_3, *late, act).commands
    assert (command.step, command.redrive) == (COMMIT.name, 1)


def test_a_contradiction_of_what_ran_changes_nothing() -> None:
    assert given(PAYOUT_3, Succeeded(step=PAY), PAID_AFTER_ALL).phase is Phase.RUNNING


# Row 3: incidents


def test_a_contradicted_step_without_a_return_freezes_the_saga_and_is_no_matter_for_a_redrive() -> None:
    for facts in (
        (PAID_AFTER_ALL,),
        (PAID_AFTER_ALL, Rejected(step=PAY, reason="no"), CANCELLED),
        (PAID_AFTER_ALL, *IN_DOUBT),
    ):
        decision = given(PAYOUT_3, *facts)
        assert (decision.state, decision.commands, decision.waiting) == (SagaState.INCIDENT, (), None)
        assert "paid by statement" in str(decision.reason)
        with pytest.raises(NotRedrivable, match="settle it by hand"):
            redrive(PAYOUT_3, known(*facts), at=AT, by="ops-3", reason="looked")


def test_a_contradiction_of_what_can_be_undone_is_only_a_mark() -> None:
    contradicted = Contradicted(step=CARD, attempt=1, reason="published as failed, paid by callback")
    assert given(CARD_3, CARD_AWAITED, contradicted) == given(CARD_3, CARD_AWAITED)


def test_a_contradiction_after_the_end_is_recorded_as_a_mark_that_no_decision_reads() -> None:
    ended = known(Rejected(step=PAY, reason="no"), Compensated(step=RESERVE.name))
    assert decide(PAYOUT_3, ended).phase is Phase.ENDED
    mark = admitted(PAYOUT_3, ended, PAID_AFTER_ALL)
    assert mark == replace(PAID_AFTER_ALL, is_mark=True)
    assert mark is not None
    after = merge_all(ended, [mark])
    assert decide(PAYOUT_3, after) == decide(PAYOUT_3, ended)
    assert after.marks == {PAY: PAID_AFTER_ALL.reason}


def test_once_a_saga_has_ended_it_is_known_alike_whether_the_contradiction_or_the_end_was_read_first() -> None:
    done = [Succeeded(step=step.name) for step in PAYOUT_3.steps]
    first = marked(merge_all(NOTHING, [PAID_AFTER_ALL, *done]))
    last = merge_all(NOTHING, [*done, replace(PAID_AFTER_ALL, is_mark=True)])
    assert first == last == marked(last)
    assert decide(PAYOUT_3, first).phase is Phase.ENDED


# Contradictions that no service undoes


@pytest.mark.parametrize("before", [(), (Rejected(step=PAY, reason="no"), Compensated(step=RESERVE.name))])
def test_a_contradiction_is_open_until_it_is_settled_in_any_order_and_opens_again_with_the_next(
    before: tuple[Fact, ...],
) -> None:
    first = replace(PAID_AFTER_ALL, unsettled_since=AT)
    second = replace(first, attempt=2, unsettled_since=AT + timedelta(hours=1))
    progress = merge_all(NOTHING, [*before, first])
    assert progress.unsettled == {f"{PAY} 1"}
    settled = settle(progress, at=AT, by="ops-1", reason="collected")
    after = merge_all(progress, [settled])
    assert after == merge_all(NOTHING, [settled, first, *before, first, settled])
    assert (after.unsettled, decide(PAYOUT_3, after)) == (set(), decide(PAYOUT_3, progress))
    assert from_record(json.loads(json.dumps(to_record(after)))) == after
    with pytest.raises(NothingToSettle, match="it is settled"):
        settle(after, at=AT, by="ops-2", reason="again")
    again = merge_all(after, [second])
    assert again.unsettled == {f"{PAY} 2"}
    assert merge_all(again, [replace(settled, by="ops-0"), replace(settled, by="ops-2")]).settled == {
        f"{PAY} 1": (AT, "ops-0", "collected")
    }


def test_what_a_service_undoes_needs_no_person() -> None:
    assert PAID_AFTER_ALL.unsettled_since is None
    with pytest.raises(NothingToSettle, match="its service undoes it"):
        settle(known(PAID_AFTER_ALL), at=AT, by="ops-1", reason="looked")


# Row 4: a rejection


def test_a_rejection_compensates_at_once_also_while_fences_are_out() -> None:
    for facts in ((), (CANCELLED,), (CANCELLED, *IN_DOUBT)):
        decision = given(PAYOUT_3, PAY_AWAITED, Rejected(step=PAY, reason="no"), *facts)
        assert (decision.phase, [each.step for each in decision.commands]) == (Phase.COMPENSATING, [RESERVE.name])


# Row 6: awaited and not stopped


def test_an_awaited_step_without_a_return_has_no_deadline() -> None:
    before = given(PAYOUT_3, Succeeded(step=RESERVE.name))
    assert before.waiting is not None
    assert before.waiting.timer == TimedOut(step=PAY)
    decision = given(PAYOUT_3, PAY_AWAITED)
    assert (decision.state, decision.step, decision.waiting) == (SagaState.PENDING, PAY, None)
    assert outcomes(PAYOUT_3, known(PAY_AWAITED))[PAY] is StepOutcome.AWAITED


def test_a_step_that_can_be_undone_may_have_a_deadline_for_its_evidence_which_leads_to_the_fence() -> None:
    assert given(CARD_3, CARD_AWAITED).waiting is None
    waiting = given(CARD_TIMED_3, CARD_AWAITED).waiting
    assert waiting is not None
    assert (waiting.timer, waiting.timeout_s) == (EvidenceOverdue(step=CARD), 3_600)
    assert waiting.key != given(CARD_TIMED_3, Succeeded(step=RESERVE.name)).waiting.key  # type: ignore[union-attr]
    assert given(CARD_TIMED_3, CARD_AWAITED, waiting.timer).phase is Phase.FENCING


def test_when_the_ladder_has_ended_the_saga_parks_and_evidence_still_settles_it() -> None:
    decision = given(PAYOUT_3, PAY_AWAITED, LADDER_ENDED)
    assert decision.parked == "book_shipment: queried 41 times in 7 days"
    assert given(PAYOUT_3, PAY_AWAITED, LADDER_ENDED, Succeeded(step=PAY)).step == COMMIT.name


# Row 7: the fence


def test_the_fence_names_no_step_behind_the_one_without_a_return() -> None:
    decision = given(PAYOUT_3, PAY_AWAITED, CANCELLED)
    assert decision.phase is Phase.FENCING
    assert [each.service for each in decision.commands] == ["inventory", "shipping"]
    assert PAYOUT_3.fenced_steps_of("ledger") == ()


# Row 8: in doubt


@pytest.mark.parametrize(("definition", "replies"), [(PAYOUT_3, IN_DOUBT), (CARD_3, CARD_IN_DOUBT)])
def test_a_stopped_saga_whose_step_is_in_doubt_waits_without_commands_and_without_a_deadline(
    definition: SagaDefinition, replies: tuple[Fact, ...]
) -> None:
    decision = given(definition, CANCELLED, *replies)
    assert (decision.state, decision.commands, decision.waiting) == (SagaState.IN_DOUBT, (), None)
    assert decision.step == definition.steps[1].name
    assert outcomes(definition, known(CANCELLED, *replies))[decision.step] is StepOutcome.AWAITED


def test_from_doubt_a_success_goes_forward_without_a_return_and_is_compensated_with_one() -> None:
    assert given(PAYOUT_3, CANCELLED, *IN_DOUBT, Succeeded(step=PAY)).step == COMMIT.name
    done = Fenced(service="payment", states=((CARD, StepState.DONE),))
    (command,) = given(CARD_3, CANCELLED, *CARD_IN_DOUBT, done).commands
    assert command.step == CARD


@pytest.mark.parametrize(("definition", "replies"), [(PAYOUT_3, IN_DOUBT), (CARD_3, CARD_IN_DOUBT)])
def test_from_doubt_a_fenced_step_leads_to_the_compensation_of_those_before_it(
    definition: SagaDefinition, replies: tuple[Fact, ...]
) -> None:
    step = definition.steps[1]
    fence = Fenced(service=step.service, states=((step.name, StepState.FENCED),))
    (command,) = given(definition, CANCELLED, *replies, fence).commands
    assert command.step == RESERVE.name


def test_a_redrive_of_a_doubt_whose_ladder_has_ended_is_of_the_step_and_not_of_the_fence() -> None:
    parked = (CANCELLED, *IN_DOUBT, LADDER_ENDED)
    assert given(PAYOUT_3, *parked).state is SagaState.NEEDS_REVIEW
    act = redrive(PAYOUT_3, known(*parked), at=AT, by="ops-3", reason="looked")
    assert (act.round_, act.number) == (f"redrive:{PAY}", 1)
    decision = given(PAYOUT_3, *parked, act)
    (command,) = decision.commands
    assert (command.step, command.redrive, decision.state) == (PAY, 1, SagaState.IN_DOUBT)
    resumed = StepRedriven(step=PAY, number=1, outcome=RedriveOutcome.RESUMED)
    again = given(PAYOUT_3, *parked, act, resumed)
    assert (again.state, again.commands, again.waiting) == (SagaState.IN_DOUBT, (), None)


# Row 9: an awaited undo


def test_an_undo_that_is_awaited_keeps_its_saga_in_doubt_however_many_replies_are_overdue() -> None:
    stopped = (CANCELLED, *CARD_IN_DOUBT, Fenced(service="payment", states=((CARD, StepState.DONE),)))
    taken = Awaited(step=CARD, attempt=1, undo=True)
    assert given(CARD_3, *stopped).waiting is not None
    for overdue in (1, CARD_3.command_attempts_max):
        decision = given(CARD_3, *stopped, ReplyOverdue(round_=CARD, attempt=overdue), taken)
        assert (decision.state, decision.waiting) == (SagaState.IN_DOUBT, None)
        assert decision.phase is Phase.COMPENSATING
    assert [each.step for each in given(CARD_3, *stopped, taken, Compensated(step=CARD)).commands] == [RESERVE.name]
    dead = CommandDead(command=CARD, reason="queried 41 times", attempt=1)
    assert given(CARD_3, *stopped, taken, dead).state is SagaState.NEEDS_REVIEW


# Cancellations


def test_a_cancellation_is_taken_as_a_wish_while_the_step_without_a_return_is_awaited_and_refused_once_it_ran() -> None:
    assert admits(PAYOUT_3, known(PAY_AWAITED), CANCELLED)
    assert not admits(PAYOUT_3, known(Succeeded(step=PAY)), CANCELLED)
    assert admits(CARD_3, known(Succeeded(step=CARD)), CANCELLED)


# Definitions


REFUSED = [
    (lambda: chain(RESERVE, replace(PAYOUT, exhausted=Exhausted.COMPENSATE)), "it can only park"),
    (lambda: chain(RESERVE, replace(PAYOUT, kind=StepKind.RETRIABLE)), "nothing undoes it"),
    (lambda: chain(PAYOUT, RESERVE), "reserve_inventory comes behind book_shipment"),
    (lambda: chain(RESERVE, PAYOUT, undoable(BURN)), "burn_loyalty_points comes behind book_shipment"),
    (lambda: chain(replace(RESERVE, kind=StepKind.PIVOT), PAYOUT), "reserve_inventory comes before book_shipment"),
    (lambda: chain(without_return(RESERVE), PAYOUT), "book_shipment comes behind reserve_inventory"),
    (lambda: chain(undoable(RESERVE, evidence_timeout_s=0)), "evidence_timeout_s of 0"),
    (
        lambda: chain(RESERVE, replace(PAYOUT, awaited=undoable(RESERVE, evidence_timeout_s=9).awaited)),
        "without a return none",
    ),
]


@pytest.mark.parametrize(("build", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_a_definition_that_breaks_a_rule_of_awaited_steps_is_refused(build: object, reason: str) -> None:
    with pytest.raises(InvalidDefinition, match=reason):
        build()  # type: ignore[operator]


def test_the_deadline_of_the_saga_covers_the_steps_up_to_the_one_without_a_return() -> None:
    slow = replace(COMMIT, timeout_s=10_000)
    assert chain(RESERVE, PAYOUT, slow).no_return == 1
    with pytest.raises(InvalidDefinition, match="deadline_s is 180"):
        chain(RESERVE, replace(PAYOUT, timeout_s=10_000), COMMIT)


def test_scaled_definitions_scale_the_time_for_evidence_too() -> None:
    (shorter,) = scaled({("order", 1): CARD_TIMED_3}, 0.5).values()
    assert shorter.steps[1].awaited is not None
    assert shorter.steps[1].awaited.evidence_timeout_s == 1_800
    assert shorter.no_return is None
