"""How long a loop collects messages: it depends on the duration and the time of its last batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.process.pace import GATHER_FACTOR, GATHER_MAX_S, Pace
from chassis.settings import Settings

times = st.floats(min_value=0.0, max_value=1e6)
spans = st.floats(min_value=0.0, max_value=10.0)


def test_a_loop_without_a_batch_yet_does_not_wait() -> None:
    assert Pace().rest_s(12_345.0) == 0.0


def test_a_loop_rests_for_half_of_its_last_batch_and_eight_milliseconds_at_most() -> None:
    assert (GATHER_FACTOR, GATHER_MAX_S) == (1.5, 0.008)


def test_a_loop_spends_a_share_of_its_time_in_batches() -> None:
    pace = Pace()
    pace.took(100.0, 100.004)
    assert pace.rest_s(100.004) == pytest.approx(0.004 * (GATHER_FACTOR - 1), abs=1e-9)
    rest_s = 0.004 * GATHER_FACTOR - 0.005
    assert pace.rest_s(100.005) == pytest.approx(rest_s, abs=1e-9), "the time since the batch counts"
    assert pace.rest_s(100.004 + 0.004 * GATHER_FACTOR) == pytest.approx(0.0, abs=1e-9)


def test_a_process_with_two_steps_does_not_wait_twice_as_long_as_one_with_one() -> None:
    """Its second step's trigger, or its call's result, comes while the loop rests after the first step's batch."""
    pace = Pace()
    pace.took(100.0, 100.005)
    assert pace.rest_s(100.005) < 0.005, "what comes right after a batch waits less than the batch took"
    assert pace.rest_s(100.008) == 0.0, "a call of 3 ms is over after the rest"


def test_nine_hops_rest_no_longer_than_two_windows_in_which_sagas_are_gathered() -> None:
    """Each hop's rest is on the way of every saga, and sagas are gathered where they begin."""
    assert 2 * Settings.model_fields["gather_s"].default >= 9 * GATHER_MAX_S


@given(began_s=times, took_s=spans, later_s=spans)
def test_a_loop_never_waits_longer_than_the_maximum(began_s: float, took_s: float, later_s: float) -> None:
    pace = Pace()
    pace.took(began_s, began_s + took_s)
    rest_s = pace.rest_s(began_s + took_s + later_s)
    assert 0.0 <= rest_s <= GATHER_MAX_S
    if later_s > GATHER_FACTOR * took_s:
        assert rest_s <= 1e-6, "an idle loop handles a message at once"
