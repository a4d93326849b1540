"""Sagas with a step whose outcome comes later, explored over the real decisions, and without one of their rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proof.awaited_controls import (
    AWAITED_CONTROLS,
    CALM,
    CANCELLABLE,
    NO_RETURN,
    ONE_SEND,
    STUCK,
    UNDOABLE,
    WITH_STATEMENT,
)
from proof.awaited_models import CARD_1, CARD_3, PAYOUT_1, PAYOUT_3, PAYOUT_4, PAYOUT_FIRST_2
from proof.awaited_provider import ProviderBounds
from proof.awaited_states import AwaitedModel
from proof.exploration import explore
from saga_tracker.model.decision import SagaState

STATES_MAX = 8_000
PAYOUT = AwaitedModel(definition=PAYOUT_1, policy=ONE_SEND)
PARCEL = AwaitedModel(definition=PAYOUT_1, policy=replace(ONE_SEND, can_cancel=True), bounds=WITH_STATEMENT)
"""It has no return once it succeeded, and can be cancelled before."""

WHOLE = {
    "payout, sent twice": replace(PAYOUT, policy=NO_RETURN),
    "payout, and a step behind it": replace(PAYOUT, definition=PAYOUT_FIRST_2),
    "payout, contradicted": replace(PAYOUT, bounds=ProviderBounds(contradicts=True)),
    "payout, database restored": replace(PAYOUT, bounds=WITH_STATEMENT, restores_max=1),
    "payout, ladder ended and redriven": replace(PAYOUT, bounds=WITH_STATEMENT, ladder_ends=True, is_redriven=True),
    "payout, two attempts": replace(
        PAYOUT, policy=replace(ONE_SEND, attempts_max=2), bounds=replace(WITH_STATEMENT, can_fail_by_our_fault=True)
    ),
    "parcel, cancelled": replace(PARCEL, bounds=replace(WITH_STATEMENT, can_fail=True)),
    "parcel, cancelled, and a step behind it": replace(PARCEL, definition=PAYOUT_FIRST_2),
    "parcel, cancelled, what is sent is lost": replace(PARCEL, bounds=ProviderBounds()),
    "parcel, cancelled, contradicted": replace(PARCEL, bounds=ProviderBounds(contradicts=True)),
    "parcel, cancelled, database restored": replace(PARCEL, restores_max=1),
    "card": AwaitedModel(definition=CARD_1, policy=UNDOABLE, bounds=WITH_STATEMENT),
    "card, cancelled": AwaitedModel(definition=CARD_1, policy=CANCELLABLE, bounds=WITH_STATEMENT),
}
"""Small enough to be visited whole."""

LARGE = {
    "card, cancelled, database restored": AwaitedModel(
        definition=CARD_1, policy=CANCELLABLE, bounds=WITH_STATEMENT, restores_max=1
    ),
    "payout of three": AwaitedModel(definition=PAYOUT_3, policy=NO_RETURN),
    "payout of four": AwaitedModel(definition=PAYOUT_4, policy=NO_RETURN),
    "card of three, cancelled": AwaitedModel(definition=CARD_3, policy=CANCELLABLE),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_state_keeps_the_invariants_and_an_end_can_be_reached_from_it(name: str) -> None:
    found = explore(WHOLE[name])
    print(f"{found.state_count} states, {found.transition_count} transitions, {found.end_count} of them ended")
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.is_whole
    assert SagaState.CONFIRMED in found.outcomes
    assert (SagaState.INCIDENT in found.outcomes) is ("contradicted" in name)


@pytest.mark.parametrize("name", LARGE)
def test_the_first_states_of_a_model_too_large_for_a_test_keep_the_invariants(name: str) -> None:
    found = explore(LARGE[name], states_max=STATES_MAX)
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.state_count >= STATES_MAX


@pytest.mark.parametrize("name", AWAITED_CONTROLS)
def test_without_one_of_its_rules_the_exploration_finds_a_trace_to_what_breaks(name: str) -> None:
    control = AWAITED_CONTROLS[name]
    found = explore(control.broken())
    print(f"{found.violation} after {found.state_count} states:", *found.trace, sep="\n  ")
    assert found.violation is not None
    assert any(each in found.violation for each in control.found_as.split("|")), found.violation


@pytest.mark.parametrize("name", [name for name, control in AWAITED_CONTROLS.items() if STUCK in control.found_as])
def test_what_is_stuck_without_a_rule_is_not_stuck_with_it(name: str) -> None:
    model = AWAITED_CONTROLS[name].whole()
    found = explore(model, states_max=STATES_MAX) if name == "fence-behind-the-pivot" else explore(model)
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))


def test_a_provider_that_loses_everything_and_has_no_statement_leaves_a_visible_doubt_and_no_wrong() -> None:
    found = explore(replace(PAYOUT, bounds=replace(CALM, can_lose=True)))
    assert found.violation == STUCK
