"""The decisions about an awaited step, rule by rule: what messages and evidence do to each state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.saga.attempts import (
    Attempt,
    AttemptState,
    AwaitedPolicy,
    Cancel,
    Evidence,
    Outcome,
    Statement,
    attempt_key,
    proves_absent,
)
from chassis.saga.awaited import (
    Act,
    AwaitedEffect,
    Change,
    may_send_again,
    on_accepted,
    on_due,
    on_evidence,
    on_fenced,
    on_missing,
    on_not_found,
    restored,
    triggered,
)
from chassis.saga.effects import (
    IN_DOUBT,
    OPEN,
    Effect,
    EffectState,
    OnCompensation,
    OnFence,
    OnRedrive,
    on_compensation,
    on_fence,
    on_redrive,
    undone,
)
from chassis.saga.ladder import Ladder

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALL_OVER = NOW + timedelta(seconds=4)
LATER = NOW + timedelta(hours=1)
STARTED, SENT, UNSURE, PAUSED = EffectState.STARTED, EffectState.SENT, EffectState.UNSURE, EffectState.PAUSED
DONE, REJECTED, FENCED = EffectState.DONE, EffectState.REJECTED, EffectState.FENCED

NO_RETURN = AwaitedPolicy(no_return=True, attempts_max=2, grace=timedelta(minutes=5))
UNDOABLE = AwaitedPolicy(no_return=False, attempts_max=2, grace=timedelta(minutes=5))
CANCELLABLE = replace(UNDOABLE, can_cancel=True)
POLICIES = (NO_RETURN, UNDOABLE, CANCELLABLE)
policies = pytest.mark.parametrize("policy", POLICIES, ids=["no return", "undoable", "cancellable"])
open_states = pytest.mark.parametrize("state", sorted(OPEN))


def begun() -> AwaitedEffect:
    return triggered("saga", "pay", now=NOW, deadline_at=CALL_OVER).after


def an_awaited(state: EffectState, *, closing: bool = False, number: int = 1) -> AwaitedEffect:
    """Return an awaited step in this state as its decisions lead to it; attempts before ``number`` failed."""
    attempts = tuple(
        Attempt(number=each, first_sent_at=NOW, last_sent_at=CALL_OVER, state=AttemptState.FAILED)
        for each in range(1, number)
    )
    known = {
        DONE: AttemptState.SUCCEEDED,
        REJECTED: AttemptState.FAILED,
        FENCED: AttemptState.FAILED,
        PAUSED: AttemptState.FAILED,
    }
    last = Attempt(number=number, first_sent_at=NOW, last_sent_at=CALL_OVER, state=known.get(state, AttemptState.OPEN))
    effect = Effect(
        saga_id="saga",
        step="pay",
        state=state,
        attempt=number,
        deadline_at=CALL_OVER if state is STARTED else None,
        closing=closing,
    )
    return AwaitedEffect(effect=effect, attempts=(*attempts, last))


def proves(outcome: Outcome, attempt: int = 1, detail: str | None = None) -> Evidence:
    return Evidence(attempt=attempt, outcome=outcome, detail=detail)


def due(awaited: AwaitedEffect, policy: AwaitedPolicy, *, lane_is_open: bool = True, at: datetime = LATER) -> Change:
    deadline_at = at + timedelta(seconds=4)
    return on_due(awaited, policy, now=at, deadline_at=deadline_at, lane_is_open=lane_is_open)


def test_a_trigger_begins_attempt_one_and_is_sent_only_behind_its_published_step_awaited() -> None:
    change = triggered("saga", "pay", now=NOW, deadline_at=CALL_OVER)
    assert change.after.effect.state is STARTED
    assert [each.number for each in change.after.attempts] == [1]
    assert change.acts == (Act.SEND,)


# Rule 1: an acknowledgement proves arrival, nothing else; only evidence settles.


@policies
def test_an_acknowledgement_proves_arrival_and_settles_nothing(policy: AwaitedPolicy) -> None:
    for state in (STARTED, UNSURE, SENT):
        change = on_accepted(an_awaited(state), 1)
        assert change.after.effect.state is SENT
        assert Act.PUBLISH not in change.acts


@policies
@open_states
@pytest.mark.parametrize("closing", [False, True])
def test_no_time_that_passes_settles_a_step(policy: AwaitedPolicy, state: EffectState, closing: bool) -> None:
    awaited = an_awaited(state, closing=closing)
    for _ in range(20):
        change = due(awaited, policy)
        awaited = change.after
        assert awaited.effect.state in OPEN
        assert len(awaited.attempts) == 1
        assert Act.PUBLISH not in change.acts


def test_a_call_that_is_over_without_an_answer_leaves_the_step_unsure_and_queries() -> None:
    early = on_due(begun(), NO_RETURN, now=NOW, deadline_at=LATER)
    assert (early.after, early.acts) == (begun(), ())
    change = due(begun(), NO_RETURN)
    assert (change.after.effect.state, change.acts) == (UNSURE, (Act.QUERY,))


@policies
@open_states
def test_a_success_settles_an_open_step_and_wakes_what_waits_for_it(policy: AwaitedPolicy, state: EffectState) -> None:
    change = on_evidence(an_awaited(state), policy, proves(Outcome.SUCCEEDED))
    assert change.after.effect.state is DONE
    assert change.acts == (Act.PUBLISH, Act.WAKE)


# Rule 2: keys are derived; the same one may go again, a new one only after proven failure.


def test_every_attempt_has_one_derived_key() -> None:
    assert attempt_key("saga", "pay", 1) == "saga:pay"
    assert attempt_key("saga", "pay", 2) == attempt_key("saga", "pay", 2) != attempt_key("saga", "pay", 1)


def test_after_a_query_that_finds_nothing_the_same_attempt_is_sent_again_up_to_its_limit() -> None:
    awaited, sends = due(begun(), NO_RETURN).after, 1
    while may_send_again(awaited := on_not_found(awaited, NO_RETURN, 1).after, NO_RETURN):
        change = due(awaited, NO_RETURN)
        assert change.acts == (Act.SEND_AGAIN,)
        awaited, sends = (
            due(replace(change.after, effect=replace(change.after.effect, deadline_at=NOW)), NO_RETURN).after,
            sends + 1,
        )
    assert sends == NO_RETURN.sends_max
    assert len(awaited.attempts) == 1


@policies
def test_a_new_attempt_begins_only_after_the_one_before_is_proven_to_have_failed(policy: AwaitedPolicy) -> None:
    for state in OPEN:
        paused = on_evidence(an_awaited(state), policy, proves(Outcome.FAILED))
        assert (paused.after.effect.state, paused.acts) == (PAUSED, ())
        assert due(paused.after, policy, lane_is_open=False) == Change(after=paused.after)
        second = due(paused.after, policy)
        assert (second.after.effect.state, second.after.effect.attempt, second.acts) == (STARTED, 2, (Act.SEND,))
        assert [each.state for each in second.after.attempts] == [AttemptState.FAILED, AttemptState.OPEN]


@policies
@open_states
def test_a_failure_for_good_or_of_the_last_attempt_rejects_the_step(policy: AwaitedPolicy, state: EffectState) -> None:
    for awaited, evidence in (
        (an_awaited(state), proves(Outcome.REFUSED)),
        (an_awaited(state, number=2), proves(Outcome.FAILED, attempt=2)),
    ):
        change = on_evidence(awaited, policy, evidence)
        assert (change.after.effect.state, change.acts) == (REJECTED, (Act.PUBLISH, Act.WAKE))


# Rule 3: what proves failure.


def test_a_query_that_finds_nothing_proves_nothing() -> None:
    for state in OPEN:
        change = on_not_found(an_awaited(state), NO_RETURN, 1)
        assert change.after.effect.state is state
        assert change.acts == ()


def test_where_the_adapter_promises_it_a_query_that_finds_nothing_is_proof_once_the_call_is_over() -> None:
    policy = replace(NO_RETURN, not_found_is_proof=True)
    assert on_not_found(an_awaited(STARTED), policy, 1).after.effect.state is STARTED
    assert on_not_found(an_awaited(UNSURE), policy, 1).after.effect.state is PAUSED
    assert on_not_found(an_awaited(UNSURE, closing=True), policy, 1).after.effect.state is FENCED


def test_absence_counts_only_while_it_is_not_known_that_the_attempt_arrived() -> None:
    for state in (STARTED, SENT, PAUSED, DONE, REJECTED, FENCED):
        awaited = an_awaited(state)
        assert on_evidence(awaited, NO_RETURN, proves(Outcome.ABSENT)) == Change(after=awaited)
    assert on_evidence(an_awaited(UNSURE), NO_RETURN, proves(Outcome.ABSENT)).after.effect.state is PAUSED
    closing = on_evidence(an_awaited(UNSURE, closing=True), NO_RETURN, proves(Outcome.ABSENT))
    assert (closing.after.effect.state, closing.acts) == (FENCED, (Act.WAKE,))


@pytest.mark.parametrize(
    ("covers_from", "covers_until", "read_at", "is_proof"),
    [
        (NOW, CALL_OVER + NO_RETURN.grace, LATER, True),
        (NOW + timedelta(seconds=1), CALL_OVER + NO_RETURN.grace, LATER, False),
        (NOW, CALL_OVER + NO_RETURN.grace - timedelta(seconds=1), LATER, False),
        (NOW, CALL_OVER + NO_RETURN.grace, CALL_OVER, False),
    ],
    ids=["whole", "begins late", "ends within the grace", "read before the grace"],
)
def test_a_statement_proves_absence_only_if_it_covers_every_send_with_its_grace_and_is_read_after_it(
    covers_from: datetime, covers_until: datetime, read_at: datetime, is_proof: bool
) -> None:
    statement = Statement(covers_from=covers_from, covers_until=covers_until, read_at=read_at)
    assert proves_absent(begun().current, NO_RETURN, statement) is is_proof
    unsure = an_awaited(UNSURE)
    assert (on_missing(unsure, NO_RETURN, 1, statement).after.effect.state is PAUSED) is is_proof
    assert is_proof or on_missing(unsure, NO_RETURN, 1, statement) == Change(after=unsure)


def test_a_statement_from_before_the_last_send_proves_nothing() -> None:
    statement = Statement(covers_from=NOW, covers_until=LATER, read_at=LATER)
    unsure = on_not_found(an_awaited(UNSURE), NO_RETURN, 1).after
    assert proves_absent(unsure.current, NO_RETURN, statement)
    assert not proves_absent(due(unsure, NO_RETURN).after.current, NO_RETURN, statement)


# Rule 5: a fence that meets an open step.


def test_a_fence_answers_that_a_sent_or_unsure_step_is_in_doubt_and_never_fences_it() -> None:
    assert {state: on_fence(an_awaited(state).effect) for state in EffectState} == {
        STARTED: OnFence.WAIT,
        SENT: OnFence.DOUBT,
        UNSURE: OnFence.DOUBT,
        PAUSED: OnFence.FENCE,
        DONE: OnFence.ANSWER,
        REJECTED: OnFence.ANSWER,
        FENCED: OnFence.ANSWER,
        EffectState.UNDONE: OnFence.ANSWER,
    }
    assert on_fence(None) is OnFence.FENCE
    for state in OPEN:
        assert on_fenced(an_awaited(state), NO_RETURN).after.effect.state is state
    assert on_fenced(an_awaited(PAUSED), NO_RETURN).after.effect.state is FENCED


@policies
def test_the_fence_that_waits_for_a_call_is_woken_when_the_step_comes_into_doubt(policy: AwaitedPolicy) -> None:
    closing = on_fenced(begun(), policy).after
    for change in (on_accepted(closing, 1), due(closing, policy)):
        assert change.after.effect.state in IN_DOUBT
        assert Act.WAKE in change.acts


@policies
def test_a_fence_that_is_answered_with_doubt_is_not_answered_so_again(policy: AwaitedPolicy) -> None:
    assert on_accepted(an_awaited(UNSURE, closing=True), 1).acts == ()
    assert Act.WAKE not in due(an_awaited(UNSURE, closing=True), policy).acts


@policies
@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.REFUSED, Outcome.FAILED])
def test_whatever_settles_a_closing_step_wakes_the_fence_for_its_second_answer(
    policy: AwaitedPolicy, outcome: Outcome
) -> None:
    change = on_evidence(an_awaited(UNSURE, closing=True), policy, proves(outcome))
    assert change.after.effect.state in (DONE, REJECTED)
    assert Act.WAKE in change.acts


@policies
@open_states
def test_a_closing_step_sends_nothing_any_more(policy: AwaitedPolicy, state: EffectState) -> None:
    awaited = an_awaited(state, closing=True)
    for _ in range(5):
        change = due(on_not_found(awaited, policy, 1).after, policy)
        awaited = change.after
        assert not {Act.SEND, Act.SEND_AGAIN} & set(change.acts)
    failed = on_evidence(awaited, policy, proves(Outcome.FAILED))
    assert due(failed.after, policy).acts == ()


# Rule 6: who is mute while closing.


@pytest.mark.parametrize("state", [UNSURE, SENT])
def test_a_closing_step_whose_cancel_is_refused_is_sent_again_where_nothing_else_settles_it(state: EffectState) -> None:
    policy = replace(CANCELLABLE, settles_by_sending=True, sends_within=timedelta(hours=20))
    closing = on_fenced(an_awaited(state), policy).after
    assert due(closing, policy).acts == (Act.CANCEL,), "as long as its cancel is not answered"
    refused = on_evidence(closing, policy, proves(Outcome.CANCEL_REFUSED)).after
    assert due(refused, policy).acts == (Act.QUERY,), "a query comes first"
    not_found = on_not_found(refused, policy, 1).after
    assert due(not_found, CANCELLABLE).acts == (Act.QUERY,)
    again = due(not_found, policy)
    assert (again.acts, again.after.current.sends, again.after.effect.closing) == ((Act.SEND_AGAIN,), 2, True)
    done = on_evidence(again.after, policy, proves(Outcome.SUCCEEDED))
    assert (done.after.effect.state, done.acts) == (DONE, (Act.WAKE,)), "its success is undone, and not published"
    assert on_evidence(again.after, policy, proves(Outcome.REFUSED)).after.effect.state is REJECTED
    assert due(not_found, policy, at=NOW + timedelta(hours=21)).acts == (Act.QUERY,), "the key may be gone"


def test_only_a_step_that_can_be_cancelled_and_undone_is_sent_again_while_closing() -> None:
    for policy in (NO_RETURN, UNDOABLE):
        with pytest.raises(ValueError, match="cancelled and undone"):
            replace(policy, settles_by_sending=True)


def test_an_outcome_of_a_closing_step_is_published_only_where_nothing_undoes_it() -> None:
    for outcome in (Outcome.SUCCEEDED, Outcome.REFUSED):
        closing = an_awaited(SENT, closing=True)
        assert Act.PUBLISH in on_evidence(closing, NO_RETURN, proves(outcome)).acts
        assert Act.PUBLISH not in on_evidence(closing, UNDOABLE, proves(outcome)).acts


# Rule 9: a cancel can void what succeeded.


def test_a_fence_cancels_what_is_in_doubt_where_the_provider_can_and_repeats_it_until_it_is_answered() -> None:
    for state in IN_DOUBT:
        change = on_fenced(an_awaited(state), CANCELLABLE)
        assert (change.after.current.cancel, change.acts) == (Cancel.OUT, (Act.CANCEL,))
        assert due(change.after, CANCELLABLE).acts == (Act.CANCEL,)
        assert on_fenced(change.after, CANCELLABLE).acts == ()
    assert on_fenced(an_awaited(SENT), UNDOABLE).acts == ()


def test_under_a_cancel_a_success_alone_settles_nothing() -> None:
    cancelled = on_fenced(an_awaited(SENT), CANCELLABLE).after
    assert on_evidence(cancelled, CANCELLABLE, proves(Outcome.SUCCEEDED)) == Change(after=cancelled)
    voided = on_evidence(cancelled, CANCELLABLE, proves(Outcome.VOIDED))
    assert (voided.after.effect.state, voided.acts) == (FENCED, (Act.WAKE,))
    refused = on_evidence(cancelled, CANCELLABLE, proves(Outcome.CANCEL_REFUSED))
    assert refused.acts == (Act.QUERY,)
    assert due(refused.after, CANCELLABLE).acts == (Act.QUERY,)
    assert on_evidence(refused.after, CANCELLABLE, proves(Outcome.SUCCEEDED)).after.effect.state is DONE


def test_a_success_that_is_told_after_a_final_void_is_of_before_it_and_contradicts_nothing() -> None:
    final = replace(CANCELLABLE, void_is_final=True)
    cancelled = on_fenced(an_awaited(SENT), final).after
    voided = on_evidence(cancelled, final, proves(Outcome.VOIDED)).after
    late = on_evidence(voided, final, proves(Outcome.SUCCEEDED))
    assert (late.after, late.acts) == (voided, ())
    assert Act.CONTRADICT in on_evidence(voided, CANCELLABLE, proves(Outcome.SUCCEEDED)).acts


def test_a_final_void_of_what_is_done_and_being_undone_may_be_our_own_undo() -> None:
    final = replace(CANCELLABLE, void_is_final=True)
    done = on_evidence(an_awaited(SENT), final, proves(Outcome.SUCCEEDED)).after
    undone = on_evidence(on_fenced(done, final).after, final, proves(Outcome.VOIDED))
    assert undone.acts == ()
    assert Act.CONTRADICT in on_evidence(done, final, proves(Outcome.VOIDED)).acts


def test_what_the_provider_voids_by_itself_is_rejected() -> None:
    change = on_evidence(an_awaited(SENT), CANCELLABLE, proves(Outcome.VOIDED))
    assert (change.after.effect.state, change.acts) == (REJECTED, (Act.PUBLISH, Act.WAKE))


# Rule 10: contradictions.


@policies
@pytest.mark.parametrize("state", [REJECTED, FENCED])
def test_a_success_after_a_failure_is_published_once_and_turns_no_row_round(
    policy: AwaitedPolicy, state: EffectState
) -> None:
    change = on_evidence(an_awaited(state, closing=True), policy, proves(Outcome.SUCCEEDED))
    assert change.after.effect.state is state
    assert change.after.attempts[0].state is AttemptState.FAILED
    assert change.contradicted == 1
    assert Act.CONTRADICT in change.acts
    assert (Act.UNDO_ATTEMPT in change.acts) is not policy.no_return
    assert on_evidence(change.after, policy, proves(Outcome.SUCCEEDED)) == Change(after=change.after)


@policies
def test_a_failure_after_a_success_is_published_once_and_turns_no_row_round(policy: AwaitedPolicy) -> None:
    done = an_awaited(DONE)
    change = on_evidence(done, policy, proves(Outcome.REFUSED))
    assert (change.after.effect, change.acts, change.contradicted) == (done.effect, (Act.CONTRADICT,), 1)
    assert on_evidence(change.after, policy, proves(Outcome.FAILED)) == Change(after=change.after)


@policies
@open_states
def test_a_second_success_with_other_details_is_published_once_and_turns_no_row_round(
    policy: AwaitedPolicy, state: EffectState
) -> None:
    done = on_evidence(an_awaited(state), policy, proves(Outcome.SUCCEEDED, detail="1 piece")).after
    assert on_evidence(done, policy, proves(Outcome.SUCCEEDED, detail="1 piece")) == Change(after=done)
    change = on_evidence(done, policy, proves(Outcome.SUCCEEDED, detail="2 pieces"))
    assert (change.after.effect, change.acts, change.contradicted) == (done.effect, (Act.CONTRADICT,), 1)
    assert change.after.current.detail == "1 piece"
    for detail in ("1 piece", "2 pieces", "3 pieces"):
        assert on_evidence(change.after, policy, proves(Outcome.SUCCEEDED, detail=detail)) == Change(after=change.after)


@policies
@pytest.mark.parametrize(("first", "second"), [(None, "2 pieces"), ("1 piece", None), (None, None)])
def test_details_that_are_unknown_contradict_nothing(
    policy: AwaitedPolicy, first: str | None, second: str | None
) -> None:
    done = on_evidence(an_awaited(SENT), policy, proves(Outcome.SUCCEEDED, detail=first)).after
    assert on_evidence(done, policy, proves(Outcome.SUCCEEDED, detail=second)) == Change(after=done)


@policies
def test_a_paused_step_whose_attempt_succeeded_after_all_is_done_and_contradicted(policy: AwaitedPolicy) -> None:
    change = on_evidence(an_awaited(PAUSED), policy, proves(Outcome.SUCCEEDED))
    assert change.after.effect.state is DONE
    assert set(change.acts) == {Act.PUBLISH, Act.WAKE, Act.CONTRADICT}
    assert due(change.after, policy).acts == ()


@open_states
def test_an_earlier_attempt_that_succeeded_after_all_goes_forward_without_a_return_and_is_undone_with_one(
    state: EffectState,
) -> None:
    awaited = an_awaited(state, number=2)
    forward = on_evidence(awaited, NO_RETURN, proves(Outcome.SUCCEEDED, attempt=1))
    assert forward.after.effect.state is DONE
    assert set(forward.acts) == {Act.PUBLISH, Act.WAKE, Act.CONTRADICT}
    stray = on_evidence(awaited, UNDOABLE, proves(Outcome.SUCCEEDED, attempt=1))
    assert stray.after.effect.state is state
    assert (stray.acts, stray.contradicted) == ((Act.CONTRADICT, Act.UNDO_ATTEMPT), 1)
    twice = on_evidence(forward.after, NO_RETURN, proves(Outcome.SUCCEEDED, attempt=2))
    assert (twice.acts, twice.contradicted) == ((Act.CONTRADICT,), 2)


# Redrive, compensation, restore, ladder.


def test_a_redrive_resumes_the_queries_also_while_closing_and_makes_no_attempt() -> None:
    for state in (STARTED, SENT, UNSURE, PAUSED):
        effect = replace(an_awaited(state).effect, closing=True)
        assert on_redrive(effect, is_awaited=True) is OnRedrive.RESUME
    assert on_redrive(an_awaited(DONE).effect, is_awaited=True) is OnRedrive.REPORT


def test_a_compensation_settles_what_is_in_doubt_before_it_undoes_and_fences_what_is_paused() -> None:
    for state in OPEN:
        assert on_compensation([an_awaited(state).effect]) is OnCompensation.SETTLE
    assert on_compensation([an_awaited(PAUSED).effect]) is OnCompensation.REPLY
    assert undone("saga", "pay", an_awaited(PAUSED).effect).state is FENCED


def test_a_restored_step_is_unsure_at_its_highest_attempt_sends_nothing_and_trusts_no_statement_from_before() -> None:
    change = restored("saga", "pay", {1: NOW, 2: NOW + timedelta(hours=1)}, calls_end_at=LATER)
    assert (change.after.effect.state, change.after.effect.attempt, change.acts) == (UNSURE, 2, (Act.QUERY,))
    before = Statement(covers_from=NOW, covers_until=LATER, read_at=LATER)
    assert not proves_absent(change.after.current, NO_RETURN, before)
    after = LATER + NO_RETURN.grace
    assert proves_absent(change.after.current, NO_RETURN, Statement(covers_from=NOW, covers_until=after, read_at=after))


def test_a_cancel_that_may_be_out_counts_as_out_after_a_restore_and_a_success_alone_settles_nothing() -> None:
    for policy in (CANCELLABLE, replace(NO_RETURN, can_cancel=True)):
        found = restored("saga", "pay", {1: NOW}, calls_end_at=LATER, closing=True, cancels=True).after
        assert found.current.cancel is Cancel.OUT
        assert on_evidence(found, policy, proves(Outcome.SUCCEEDED)).after == found
        refused = on_evidence(found, policy, proves(Outcome.CANCEL_REFUSED)).after
        assert on_evidence(refused, policy, proves(Outcome.SUCCEEDED)).after.effect.state is DONE
        assert on_evidence(found, policy, proves(Outcome.VOIDED)).after.effect.state is FENCED


def test_what_a_restored_step_has_sent_counts_as_sent_until_now_and_what_arrived_as_arrived() -> None:
    sent = on_accepted(begun(), 1).after
    found = restored("saga", "pay", {}, calls_end_at=LATER, before=sent).after
    assert (found.effect.state, found.current.last_sent_at) == (SENT, LATER)
    assert found.current.first_sent_at == sent.current.first_sent_at
    again = restored("saga", "pay", {2: LATER}, calls_end_at=LATER, before=sent).after
    assert (again.effect.state, again.effect.attempt) == (UNSURE, 2)
    assert again.attempts[0].state is AttemptState.FAILED


def test_evidence_of_an_attempt_that_is_unknown_here_is_an_orphan() -> None:
    with pytest.raises(LookupError, match="no attempt 2"):
        on_evidence(begun(), NO_RETURN, proves(Outcome.SUCCEEDED, attempt=2))


def test_the_ladder_widens_to_daily_queries_and_ends() -> None:
    ladder, queries, now = Ladder(), 0, NOW
    while (next_at := ladder.next_at(queries, began_at=NOW, now=now)) is not None:
        queries, now = queries + 1, next_at
    assert (queries, now < NOW + timedelta(days=7)) == (16, True)
    with pytest.raises(ValueError, match="above 0"):
        Ladder(waits_s=())


evidence = st.builds(Evidence, attempt=st.integers(1, 2), outcome=st.sampled_from(Outcome))


@given(st.sampled_from(POLICIES), st.sampled_from(EffectState), st.integers(1, 2), st.booleans(), st.lists(evidence))
def test_any_evidence_in_any_order_settles_at_most_once_and_the_same_piece_again_changes_nothing(
    policy: AwaitedPolicy, state: EffectState, number: int, closing: bool, pieces: list[Evidence]
) -> None:
    awaited, contradicted = an_awaited(state, closing=closing, number=number), list[int]()
    for piece in pieces:
        if piece.attempt > number:
            continue
        before = awaited
        change = on_evidence(awaited, policy, piece)
        awaited = change.after
        assert before.effect.state in {*OPEN, PAUSED} or awaited.effect == before.effect
        assert on_evidence(awaited, policy, piece) == Change(after=awaited)
        contradicted += [change.contradicted] if change.contradicted else []
        assert sum(each.state is AttemptState.OPEN for each in awaited.attempts) <= 1
    assert len(contradicted) == len(set(contradicted))


# A key that its provider deletes, and a success of something else.


def test_an_attempt_is_not_sent_again_once_its_provider_may_have_deleted_its_key() -> None:
    until_over = LATER + timedelta(seconds=4) - NOW
    policy = replace(NO_RETURN, sends_within=until_over)
    not_found = on_not_found(due(begun(), policy).after, policy, 1).after
    assert due(not_found, policy).acts == (Act.SEND_AGAIN,)
    shorter = replace(policy, sends_within=until_over - timedelta(microseconds=1))
    assert due(not_found, shorter).acts == (Act.QUERY,), "the call would end after the key may be deleted"


def test_an_attempt_of_which_nothing_says_when_it_was_first_sent_is_not_sent_again() -> None:
    policy = replace(NO_RETURN, sends_within=timedelta(days=30))
    unsure = on_not_found(due(begun(), policy).after, policy, 1).after
    unknown = replace(unsure, attempts=(replace(unsure.current, first_sent_at=None),))
    assert due(unknown, policy).acts == (Act.QUERY,)


@policies
@open_states
def test_a_success_of_something_else_settles_nothing_and_is_published_once(
    policy: AwaitedPolicy, state: EffectState
) -> None:
    change = on_evidence(an_awaited(state), policy, proves(Outcome.MISMATCHED))
    assert (change.acts, change.contradicted) == ((Act.CONTRADICT,), 1)
    assert change.after.effect.state is state
    again = on_evidence(change.after, policy, proves(Outcome.MISMATCHED))
    assert (again.acts, again.after) == ((), change.after)
