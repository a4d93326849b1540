"""The tracker's decisions, rule by rule, without a broker: given facts, expect a decision."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from saga_tracker.definitions import DEFINITIONS
from saga_tracker.model.decision import FENCE, Cause, Command, Decision, Phase, SagaState, fence_key
from saga_tracker.model.facts import (
    NOTHING,
    UNKNOWN_STEP,
    Cancelled,
    CommandDead,
    Compensated,
    Fact,
    Fenced,
    Redriven,
    RedriveOutcome,
    Rejected,
    ReplyOverdue,
    RetriesExhausted,
    Started,
    StepRedriven,
    StepState,
    Succeeded,
    TimedOut,
    Unprocessable,
    merge_all,
)
from saga_tracker.model.operating import NotRedrivable, admits, is_late, redrive
from saga_tracker.model.progress import decide
from saga_tracker.model.records import from_record, to_record

ORDER = DEFINITIONS["order", 1]
"""The rules are the same for every definition, so a new version changes nothing here."""
STEPS = tuple(step.name for step in ORDER.steps)
AUTHORIZE, RESERVE, BURN, SHIP, CAPTURE, LEDGER = STEPS
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
STARTED = Started(at=AT)
CANCELLED = Cancelled(at=AT, by="support-7", reason="the customer called")
DONE, FENCED, REJECTED = StepState.DONE, StepState.FENCED, StepState.REJECTED


def succeeded(*steps: str) -> tuple[Fact, ...]:
    return tuple(Succeeded(step=step) for step in steps)


def fenced(*ran: str, rejected: str | None = None) -> tuple[Fact, ...]:
    """Return every service's reply to the fence when exactly these steps ran."""

    def state(step: str) -> StepState:
        return DONE if step in ran else REJECTED if step == rejected else FENCED

    return tuple(
        Fenced(service=service, states=tuple((step, state(step)) for step in ORDER.steps_of(service)))
        for service in ORDER.services
    )


def compensated(*steps: str) -> tuple[Fact, ...]:
    return tuple(Compensated(step=step) for step in steps)


def given(*facts: Fact) -> Decision:
    return decide(ORDER, merge_all(NOTHING, (STARTED, *facts)))


def compensating(decision: Decision) -> str:
    """Return the one step that the decision compensates."""
    assert decision.phase is Phase.COMPENSATING, decision
    (command,) = decision.commands
    assert command.step is not None
    return command.step


def test_a_saga_waits_for_its_first_step() -> None:
    decision = given()
    assert (decision.state, decision.phase, decision.step) == (SagaState.PENDING, Phase.RUNNING, AUTHORIZE)
    assert decision.waiting is not None
    assert decision.waiting.timer == TimedOut(step=AUTHORIZE)
    assert decision.waiting.timeout_s == 20


def test_a_saga_whose_last_step_ran_is_confirmed_even_before_earlier_events_arrive() -> None:
    decision = given(*succeeded(LEDGER))
    assert (decision.state, decision.phase, decision.failure) == (SagaState.CONFIRMED, Phase.ENDED, None)
    assert decision.waiting is None
    assert decision.commands == ()


@pytest.mark.parametrize(
    ("rejected", "in_reverse"),
    [
        (AUTHORIZE, []),
        (RESERVE, [AUTHORIZE]),
        (BURN, [RESERVE, AUTHORIZE]),
        (SHIP, [BURN, RESERVE, AUTHORIZE]),
        (CAPTURE, [SHIP, BURN, RESERVE, AUTHORIZE]),
    ],
)
def test_a_rejection_compensates_exactly_the_steps_before_it_each_after_the_reply_for_the_one_before(
    rejected: str, in_reverse: list[str]
) -> None:
    facts: list[Fact] = [Rejected(step=rejected, reason="said no")]
    for step in in_reverse:
        assert compensating(given(*facts)) == step
        facts.append(Compensated(step=step))
    decision = given(*facts)
    assert decision.state is SagaState.CANCELLED_COMPENSATED
    assert decision.failure is not None
    assert (decision.failure.cause, decision.failure.step, decision.failure.reason) == (
        Cause.REJECTED,
        rejected,
        "said no",
    )


def test_a_timed_out_step_fences_every_service_before_anything_is_compensated() -> None:
    decision = given(*succeeded(AUTHORIZE), TimedOut(step=RESERVE))
    assert decision.phase is Phase.FENCING
    assert [command.service for command in decision.commands] == list(ORDER.services)
    assert all(command.step is None for command in decision.commands)


def test_the_fence_lasts_until_every_service_has_replied() -> None:
    answers = fenced(AUTHORIZE)
    decision = given(TimedOut(step=RESERVE), *answers[:-1])
    assert decision.phase is Phase.FENCING
    assert decision.commands == (Command(service="ledger", step=None, attempt=1),)


def test_a_late_success_that_the_fence_finds_is_compensated_like_any_other() -> None:
    facts = (TimedOut(step=RESERVE), *fenced(AUTHORIZE, RESERVE))
    assert compensating(given(*facts)) == RESERVE
    assert compensating(given(*facts, *compensated(RESERVE))) == AUTHORIZE
    decision = given(*facts, *compensated(RESERVE, AUTHORIZE))
    assert decision.failure is not None
    assert (decision.state, decision.failure.cause, decision.failure.step) == (
        SagaState.CANCELLED_COMPENSATED,
        Cause.TIMED_OUT,
        RESERVE,
    )


def test_a_timed_out_saga_whose_steps_all_ran_completes() -> None:
    assert given(TimedOut(step=CAPTURE), *fenced(*STEPS)).state is SagaState.CONFIRMED


def test_a_success_of_the_last_step_after_a_timeout_needs_no_fence() -> None:
    assert given(TimedOut(step=CAPTURE), *succeeded(LEDGER)).state is SagaState.CONFIRMED


def test_an_accepted_cancellation_beats_a_late_completion_and_reverses_the_ledger_too() -> None:
    facts = [CANCELLED, *succeeded(*STEPS)]
    undone = []
    while (decision := given(*facts)).phase is Phase.COMPENSATING:
        undone.append(compensating(decision))
        facts.append(Compensated(step=undone[-1]))
    assert undone == [LEDGER, SHIP, BURN, RESERVE, AUTHORIZE]
    assert decision.failure is not None
    assert (decision.state, decision.failure.cause) == (SagaState.CANCELLED_COMPENSATED, Cause.CANCELLED)


def test_a_cancellation_of_a_saga_that_has_ended_is_refused() -> None:
    assert not admits(ORDER, merge_all(NOTHING, succeeded(LEDGER)), CANCELLED)
    assert not admits(ORDER, merge_all(NOTHING, [Rejected(step=AUTHORIZE, reason="no")]), CANCELLED)
    assert admits(ORDER, merge_all(NOTHING, succeeded(CAPTURE)), CANCELLED)


def test_a_rejection_during_the_fence_makes_history_certain_without_the_other_replies() -> None:
    decision = given(CANCELLED, Rejected(step=BURN, reason="no points"))
    assert compensating(decision) == RESERVE
    assert decision.failure is not None
    assert decision.failure.cause is Cause.REJECTED


def test_a_rejection_that_only_the_fence_reports_counts_the_same() -> None:
    decision = given(TimedOut(step=BURN), *fenced(AUTHORIZE, RESERVE, rejected=BURN))
    assert compensating(decision) == RESERVE
    assert decision.failure is not None
    assert (decision.failure.cause, decision.failure.step) == (Cause.REJECTED, BURN)


def test_exhausted_retries_fence_the_saga_where_the_definition_says_compensate() -> None:
    decision = given(RetriesExhausted(step=SHIP, reason="the courier is down"))
    assert decision.phase is Phase.FENCING
    assert decision.failure is not None
    assert (decision.failure.cause, decision.failure.reason) == (Cause.EXHAUSTED, "the courier is down")


def test_exhausted_retries_park_the_saga_where_the_definition_says_park() -> None:
    decision = given(RetriesExhausted(step=RESERVE, reason="ZeroDivisionError"))
    assert (decision.state, decision.waiting, decision.commands) == (SagaState.NEEDS_REVIEW, None, ())
    assert decision.reason == "reserve_inventory: ZeroDivisionError"


def test_a_parked_saga_continues_by_itself_when_the_step_answers_after_all() -> None:
    decision = given(RetriesExhausted(step=RESERVE, reason="ZeroDivisionError"), *succeeded(RESERVE))
    assert (decision.state, decision.step) == (SagaState.PENDING, BURN)


def test_an_unprocessable_message_parks_a_saga_until_it_ends_or_is_stopped() -> None:
    unprocessable = Unprocessable(step=UNKNOWN_STEP, reason="no schema 99")
    assert given(unprocessable).state is SagaState.NEEDS_REVIEW
    assert given(unprocessable, *succeeded(LEDGER)).state is SagaState.CONFIRMED
    assert given(unprocessable, CANCELLED).phase is Phase.FENCING


def test_a_command_without_a_reply_is_sent_again_and_then_parks_the_saga() -> None:
    facts: list[Fact] = [Rejected(step=RESERVE, reason="no stock")]
    for attempt in range(1, ORDER.command_attempts_max + 1):
        decision = given(*facts)
        assert decision.commands == (Command(service="payment", step=AUTHORIZE, attempt=attempt),)
        assert decision.waiting is not None
        assert decision.waiting.timer == ReplyOverdue(round_=AUTHORIZE, attempt=attempt)
        facts.append(decision.waiting.timer)
    decision = given(*facts)
    assert (decision.state, decision.waiting) == (SagaState.NEEDS_REVIEW, None)
    assert decision.commands[0].attempt == ORDER.command_attempts_max
    assert given(*facts, *compensated(AUTHORIZE)).state is SagaState.CANCELLED_COMPENSATED


def test_a_fence_is_sent_again_only_to_the_services_that_have_not_replied() -> None:
    decision = given(CANCELLED, *fenced(AUTHORIZE)[:4], ReplyOverdue(round_=FENCE, attempt=1))
    assert decision.commands == (Command(service="ledger", step=None, attempt=2),)


def test_a_dead_command_parks_the_saga_until_its_reply_comes() -> None:
    rejected = Rejected(step=RESERVE, reason="no stock")
    dead = CommandDead(command=AUTHORIZE, reason="the gateway is down")
    decision = given(rejected, dead)
    assert (decision.state, decision.waiting) == (SagaState.NEEDS_REVIEW, None)
    assert given(rejected, dead, *compensated(AUTHORIZE)).state is SagaState.CANCELLED_COMPENSATED


def test_one_dead_fence_does_not_end_the_wait_for_the_others() -> None:
    decision = given(CANCELLED, CommandDead(command=fence_key("ledger"), reason="no step post_ledger"))
    assert decision.state is SagaState.NEEDS_REVIEW
    assert decision.waiting is not None


@pytest.mark.parametrize(
    "facts",
    [
        (Rejected(step=RESERVE, reason="no"), Succeeded(step=RESERVE)),
        (Rejected(step=RESERVE, reason="no"), Succeeded(step=LEDGER)),
        (Rejected(step=RESERVE, reason="no"), Rejected(step=BURN, reason="no")),
        (TimedOut(step=SHIP), *fenced(AUTHORIZE, BURN)),
    ],
)
def test_facts_that_cannot_both_be_true_park_the_saga_and_send_nothing(facts: tuple[Fact, ...]) -> None:
    decision = given(*facts)
    assert (decision.state, decision.commands, decision.waiting) == (SagaState.NEEDS_REVIEW, (), None)


def test_a_success_after_the_stop_is_late_and_an_overtaken_one_is_not() -> None:
    timed_out = merge_all(NOTHING, [TimedOut(step=BURN), *succeeded(RESERVE)])
    assert is_late(ORDER, timed_out, Succeeded(step=BURN))
    assert not is_late(ORDER, timed_out, Succeeded(step=AUTHORIZE))
    rejected = merge_all(NOTHING, [Rejected(step=SHIP, reason="no")])
    assert not is_late(ORDER, rejected, Succeeded(step=BURN))
    (loyalty,) = (
        fact for fact in fenced(AUTHORIZE, RESERVE, BURN) if isinstance(fact, Fenced) and fact.service == "loyalty"
    )
    assert is_late(ORDER, timed_out, loyalty)


def test_what_is_known_survives_being_stored() -> None:
    facts = (
        STARTED,
        *succeeded(AUTHORIZE),
        CANCELLED,
        *fenced(AUTHORIZE, rejected=RESERVE),
        *compensated(AUTHORIZE),
        RetriesExhausted(step=SHIP, reason="down"),
        CommandDead(command=fence_key("ledger"), reason="dead"),
        Unprocessable(step=UNKNOWN_STEP, reason="garbage"),
        TimedOut(step=RESERVE),
        ReplyOverdue(round_=FENCE, attempt=2),
    )
    known = merge_all(NOTHING, facts)
    assert from_record(to_record(known)) == known
    assert to_record(NOTHING) == {}


def redrives(facts: tuple[Fact, ...]) -> Redriven:
    """Return the fact of an operator's redrive of a saga with these facts."""
    return redrive(ORDER, merge_all(NOTHING, (STARTED, *facts)), at=AT, by="operator-1", reason="fixed")


def test_a_redriven_step_goes_to_its_service_once_more_and_fails_or_runs_as_it_did_the_first_time() -> None:
    exhausted = RetriesExhausted(step=RESERVE, reason="ZeroDivisionError")
    first = redrives((exhausted,))
    asked = given(exhausted, first)
    assert (asked.state, asked.parked) == (SagaState.PENDING, None)
    assert asked.commands == (Command(service="inventory", step=RESERVE, attempt=1, redrive=1),)
    resumed = StepRedriven(step=RESERVE, number=1, outcome=RedriveOutcome.RESUMED)
    waits = given(exhausted, first, resumed)
    assert waits.waiting is not None
    assert (waits.waiting.timer, waits.commands) == (TimedOut(step=RESERVE), ())
    again = RetriesExhausted(step=RESERVE, reason="KeyError", redrive=1)
    assert given(again, exhausted, resumed, first).parked == f"{RESERVE}: KeyError"
    second = redrives((again, exhausted, resumed, first))
    assert second.number == 2
    assert given(again, exhausted, resumed, first, second).commands[0].redrive == 2
    assert given(again, exhausted, first, second, *succeeded(*STEPS)).state is SagaState.CONFIRMED


@pytest.mark.parametrize(
    ("outcome", "phase", "parked"),
    [
        (RedriveOutcome.DONE, Phase.RUNNING, False),
        (RedriveOutcome.REJECTED, Phase.COMPENSATING, False),
        (RedriveOutcome.NOTHING_PARKED, Phase.RUNNING, False),
        (RedriveOutcome.FENCED, Phase.RUNNING, True),
    ],
)
def test_a_service_that_has_nothing_to_run_again_replies_with_the_state_of_its_step(
    outcome: RedriveOutcome, phase: Phase, parked: bool
) -> None:
    facts = (RetriesExhausted(step=RESERVE, reason="no"),)
    reply = StepRedriven(step=RESERVE, number=1, outcome=outcome)
    decision = given(*facts, redrives(facts), reply)
    assert (decision.phase, decision.parked is not None) == (phase, parked)
    assert decision.step == (BURN if outcome is RedriveOutcome.DONE else AUTHORIZE if phase is not Phase.RUNNING
                             else RESERVE)  # fmt: skip
    if parked:
        with pytest.raises(NotRedrivable, match="fenced"):
            redrives((*facts, redrives(facts), reply))


def test_a_redriven_compensation_or_fence_gets_as_many_attempts_again_and_its_old_dead_letters_are_history() -> None:
    rejected = Rejected(step=BURN, reason="no points")
    dead = CommandDead(command=RESERVE, reason="a bug", attempt=1)
    act = redrives((rejected, dead))
    (command,) = given(rejected, dead, act).commands
    assert (command.step, command.attempt) == (RESERVE, ORDER.command_attempts_max + 1)
    assert given(rejected, dead, act).parked is None
    assert given(rejected, dead, act, CommandDead(command=RESERVE, reason="again", attempt=6)).parked is not None
    silent = (CANCELLED, ReplyOverdue(round_=FENCE, attempt=5))
    assert given(*silent).parked is not None
    fences = given(*silent, redrives(silent))
    assert {each.attempt for each in fences.commands} == {6}
    assert given(*silent, redrives(silent), ReplyOverdue(round_=FENCE, attempt=10)).parked is not None


def test_a_redrive_makes_the_unprocessable_messages_history_that_were_known_and_no_later_ones() -> None:
    first = Unprocessable(step=UNKNOWN_STEP, reason="garbage", letter="1")
    act = redrives((first,))
    assert given(first, act).parked is None
    later = Unprocessable(step=UNKNOWN_STEP, reason="more garbage", letter="2")
    assert given(first, act, later).parked == "more garbage"


def test_a_redrive_that_is_impossible_is_refused_with_the_reason() -> None:
    with pytest.raises(NotRedrivable, match="not parked"):
        redrives(succeeded(AUTHORIZE))
    with pytest.raises(NotRedrivable, match="cannot both be true"):
        redrives((Rejected(step=AUTHORIZE, reason=""), *succeeded(AUTHORIZE)))


def test_a_reply_about_no_known_step_changes_no_step() -> None:
    reply = StepRedriven(step=UNKNOWN_STEP, number=1, outcome=RedriveOutcome.REJECTED)
    assert given(*succeeded(AUTHORIZE), reply) == given(*succeeded(AUTHORIZE))


def test_what_a_release_without_redrives_stored_keeps_its_meaning() -> None:
    stored = {
        "exhausted": {RESERVE: "a bug"},
        "dead_commands": {RESERVE: "a bug"},
        "unreadable": {UNKNOWN_STEP: "garbage"},
    }
    known = from_record(stored)
    assert (known.exhausted, known.dead_commands) == ({RESERVE: (0, "a bug")}, {RESERVE: (1, "a bug")})
    assert known.unresolved_letters == {UNKNOWN_STEP: "garbage"}
