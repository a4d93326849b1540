"""How many calls may be begun, so that slow endpoints never hold up the others."""

from __future__ import annotations

from notifier.model.capacity import CALLS_MAX, ENDPOINT_MAX, KNOWN_SLOW_MAX, QUICK_MAX, SLOW_MAX, SLOW_S, Capacity

LATER_S = SLOW_S + 0.1


def fill(capacity: Capacity, count: int, *, prefix: str = "e", now_s: float = 0.0) -> None:
    for number in range(count):
        capacity.begin(f"{prefix}-{number}", f"{prefix}{number}", now_s)


def test_an_endpoint_has_few_calls_at_once_and_a_slow_one_a_single_one() -> None:
    capacity = Capacity()
    for number in range(ENDPOINT_MAX):
        assert capacity.room(0.0).limit_of("one") == ENDPOINT_MAX - number
        capacity.begin(str(number), "one", 0.0)
    assert capacity.room(0.0).limit_of("one") == 0
    for number in range(ENDPOINT_MAX):
        capacity.end(str(number), LATER_S)
    assert capacity.room(LATER_S).limit_of("one") == 1


def test_calls_that_last_long_leave_the_quick_ones_their_room() -> None:
    capacity = Capacity()
    fill(capacity, QUICK_MAX)
    assert capacity.room(0.0).quick == 0
    room = capacity.room(LATER_S)
    assert (room.quick, room.slow_calls) == (QUICK_MAX, max(0, SLOW_MAX - QUICK_MAX))
    assert len(room.slow) == QUICK_MAX


def test_all_calls_together_are_bounded() -> None:
    capacity = Capacity()
    for number in range(CALLS_MAX // QUICK_MAX):
        fill(capacity, QUICK_MAX, prefix=f"n{number}", now_s=number * LATER_S)
    room = capacity.room(CALLS_MAX * LATER_S)
    assert (len(capacity), room.quick, room.slow_calls) == (CALLS_MAX, 0, 0)


def test_an_endpoint_is_quick_again_after_a_quick_call_and_slow_after_one_that_is_overloaded() -> None:
    capacity = Capacity()
    for ended_s, is_overloaded, is_slow in ((LATER_S, False, True), (0.1, False, False), (0.1, True, True)):
        capacity.begin("d", "one", 0.0)
        capacity.end("d", ended_s, is_overloaded=is_overloaded)
        assert ("one" in capacity.room(ended_s).slow) is is_slow


def test_what_is_remembered_is_bounded() -> None:
    capacity = Capacity()
    for number in range(KNOWN_SLOW_MAX + 1):
        capacity.begin("d", f"e{number}", 0.0)
        capacity.end("d", LATER_S)
    slow = capacity.room(LATER_S).slow
    assert len(slow) == KNOWN_SLOW_MAX
    assert "e0" not in slow
