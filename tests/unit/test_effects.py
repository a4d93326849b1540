"""The decisions about effects, without a database: what each message may do to each state of an effect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.saga.effects import (
    OPEN,
    Effect,
    EffectState,
    LoadedEffects,
    OnCompensation,
    OnDue,
    OnTrigger,
    fenced,
    on_compensation,
    on_due,
    on_trigger,
    settled,
    started,
    undone,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def an_effect(state: EffectState = EffectState.DONE, **given: object) -> Effect:
    return Effect(**{"saga_id": "saga", "step": "step", "state": state, **given})  # type: ignore[arg-type]


effects = st.builds(
    Effect,
    saga_id=st.just("saga"),
    step=st.just("step"),
    state=st.sampled_from(EffectState),
    attempt=st.integers(0, 5),
    deadline_at=st.none() | st.just(NOW),
    closing=st.booleans(),
)


@given(effects)
def test_a_redelivered_trigger_changes_nothing(effect: Effect) -> None:
    assert on_trigger(effect) is OnTrigger.IGNORE
    assert on_trigger(None) is OnTrigger.RUN


@given(effects)
def test_only_an_open_call_is_looked_after(effect: Effect) -> None:
    assert (on_due(effect, NOW) is OnDue.DISCARD) == (effect.state is not EffectState.STARTED)


def test_what_never_began_because_it_could_not_be_prepared_is_called() -> None:
    assert on_due(None, NOW) is OnDue.CALL


@pytest.mark.parametrize(
    ("closing", "until_deadline", "what"),
    [
        (False, SECOND, OnDue.CALL),
        (False, -SECOND, OnDue.CALL),
        (True, SECOND, OnDue.WAIT),
        (True, -SECOND, OnDue.QUERY),
    ],
)
def test_a_closing_call_is_asked_about_only_when_it_can_no_longer_be_under_way(
    closing: bool, until_deadline: timedelta, what: OnDue
) -> None:
    effect = an_effect(EffectState.STARTED, closing=closing, deadline_at=NOW + until_deadline)
    assert on_due(effect, NOW) is what


@given(st.lists(st.none() | effects, min_size=1, max_size=3))
def test_a_compensation_settles_what_is_open_before_it_undoes_what_is_done(found: list[Effect | None]) -> None:
    states = {effect.state for effect in found if effect}
    expected = OnCompensation.UNDO if EffectState.DONE in states else OnCompensation.REPLY
    assert on_compensation(found) is (OnCompensation.SETTLE if states & OPEN else expected)


@given(effects)
def test_a_fence_forbids_what_has_not_run_and_leaves_the_rest_as_it_is(effect: Effect) -> None:
    assert fenced("saga", "step", None).state is EffectState.FENCED
    after = fenced("saga", "step", effect)
    assert after.closing
    assert after.state is (EffectState.FENCED if effect.state is EffectState.PAUSED else effect.state)
    assert fenced("saga", "step", after) == after


@given(effects)
def test_a_compensation_ends_an_effect_once(effect: Effect) -> None:
    assert undone("saga", "step", None).state is EffectState.FENCED
    after = undone("saga", "step", effect)
    assert after.state is not EffectState.DONE
    assert undone("saga", "step", after) == after


def test_each_call_counts_as_an_attempt() -> None:
    first = started(None, saga_id="saga", step="step", deadline_at=NOW)
    second = started(first, saga_id="saga", step="step", deadline_at=NOW + SECOND)
    assert (first.attempt, second.attempt, second.deadline_at) == (1, 2, NOW + SECOND)


@given(effects)
def test_only_an_open_or_paused_effect_can_be_settled(effect: Effect) -> None:
    if effect.state in {*OPEN, EffectState.PAUSED}:
        after = settled(effect, EffectState.DONE)
        assert (after.state, after.deadline_at, after.closing) == (EffectState.DONE, None, effect.closing)
    else:
        with pytest.raises(ValueError, match="only an open effect"):
            settled(effect, EffectState.DONE)


def test_only_what_changed_is_saved() -> None:
    kept, changed = an_effect(), an_effect(EffectState.STARTED, step="other")
    loaded = LoadedEffects.of([kept, changed])
    loaded.put(kept)
    loaded.put(settled(changed, EffectState.DONE))
    loaded.put(an_effect(step="new"))
    assert [effect.step for effect in loaded.changed] == ["other"]
    assert [effect.step for effect in loaded.new] == ["new"]
