"""Every short schedule of outages around one step: it times out when its service had its whole time, and only then."""

from __future__ import annotations

from proof.late_starts import ENDS_WITHIN_TICKS, explore, judge_from_the_start

TICKS_MAX = ENDS_WITHIN_TICKS
"""Long enough that a step whose service is there from the beginning must have timed out."""


def test_in_every_schedule_of_outages_a_step_has_its_whole_time_and_no_more() -> None:
    found = explore(TICKS_MAX)
    print(f"{found.state_count} states, in {found.over_count} of them the step timed out")
    assert found.problem is None, found.ticks
    assert found.over_count > 0


def test_a_deadline_that_counts_from_the_start_of_the_saga_cancels_what_is_merely_late() -> None:
    found = explore(TICKS_MAX, judge_from_the_start)
    print(f"{found.problem} after {found.state_count} states: {', '.join(found.ticks)}")
    assert str(found.problem).startswith("timed out")
