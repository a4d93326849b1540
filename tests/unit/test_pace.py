"""How long a loop gathers: by what its last batch took, and when that was."""

from __future__ import annotations

import pytest
from chassis.process.pace import GATHER_FACTOR, GATHER_MAX_S, Pace
from hypothesis import given
from hypothesis import strategies as st

times = st.floats(min_value=0.0, max_value=1e6)
spans = st.floats(min_value=0.0, max_value=10.0)


def test_a_loop_that_has_done_nothing_yet_waits_for_nothing() -> None:
    assert Pace().rest_s(12_345.0) == 0.0


def test_a_loop_is_in_its_batches_for_a_share_of_its_time() -> None:
    pace = Pace()
    pace.took(100.0, 100.004)
    assert pace.rest_s(100.004) == pytest.approx(0.004 * (GATHER_FACTOR - 1), abs=1e-9)
    assert pace.rest_s(100.010) == pytest.approx(0.006, abs=1e-9), "what passed since counts"
    assert pace.rest_s(100.016) == pytest.approx(0.0, abs=1e-9)


@given(began_s=times, took_s=spans, later_s=spans)
def test_nobody_waits_longer_than_the_most(began_s: float, took_s: float, later_s: float) -> None:
    pace = Pace()
    pace.took(began_s, began_s + took_s)
    rest_s = pace.rest_s(began_s + took_s + later_s)
    assert 0.0 <= rest_s <= GATHER_MAX_S
    if later_s > GATHER_FACTOR * took_s:
        assert rest_s <= 1e-6, "an idle loop handles a message at once"
