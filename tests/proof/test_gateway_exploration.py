"""The steps of merchants' payments at each gateway, explored over the real adapters, and without one of their rules."""

from __future__ import annotations

import pytest

from proof.exploration import explore
from proof.gateway_controls import GATEWAY_CONTROLS
from proof.gateway_models import MODELS

STATES_MAX = 6_000
LARGE = {"stripe: authorization, a 500 is stored", "adyen: authorization, an older attempt"}
LARGE_IN_DAYS = {name for name in MODELS if "authorization" in name}
"""Too large for a test once a day may go by at any moment."""


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_a_payer_is_charged_exactly_as_the_step_says_and_an_end_can_be_reached_from_every_state(name: str) -> None:
    found = explore(MODELS[name]())
    print(f"{found.state_count} states, {found.transition_count} transitions, {found.end_count} of them ended")
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.is_whole
    assert "DONE" in found.outcomes
    if "authorization" in name:
        assert {"FENCED", "REJECTED", "UNDONE"} <= set(found.outcomes)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE_IN_DAYS])
def test_keys_that_are_deleted_after_a_day_charge_nobody_twice(name: str) -> None:
    model = MODELS[name]()
    model.days = True
    found = explore(model)
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.is_whole


@pytest.mark.parametrize(
    ("name", "days"), [*((name, False) for name in sorted(LARGE)), *((name, True) for name in sorted(LARGE_IN_DAYS))]
)
def test_the_first_states_of_a_model_too_large_for_a_test_charge_as_the_step_says(name: str, days: bool) -> None:
    model = MODELS[name]()
    model.days = days
    found = explore(model, states_max=STATES_MAX)
    assert found.violation is None, "\n".join((str(found.violation), *found.trace))
    assert found.state_count >= STATES_MAX


@pytest.mark.parametrize("name", GATEWAY_CONTROLS)
def test_without_one_of_its_rules_the_exploration_finds_a_trace_to_what_breaks(name: str) -> None:
    control = GATEWAY_CONTROLS[name]
    found = explore(control.broken(), states_max=STATES_MAX)
    print(f"{found.violation} after {found.state_count} states:", *found.trace, sep="\n  ")
    assert found.violation is not None
    assert any(each in found.violation for each in control.found_as.split("|")), found.violation
