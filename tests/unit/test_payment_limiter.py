"""The limit of requests to an account: callers wait their turn, and one that would wait too long is not made."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from chassis.http.downstream import NotTried
from chassis.http.timed_connections import ending_by
from payment.gateways.limiter import BURST_S, WAIT_S_MAX, Limiter


@dataclass
class Clock:
    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_requests_are_spread_evenly_after_a_short_burst() -> None:
    clock = Clock()
    limiter = Limiter("stripe", 100.0, clock=clock, sleep=clock.sleep)
    clock.now += 10
    for _ in range(30):
        limiter.wait()
    waited = [round(each, 3) for each in clock.slept if each > 1e-6]
    burst = round(BURST_S * 100) + 1
    assert waited == [round((number + 1) / 100, 3) for number in range(30 - burst)]


def test_one_that_would_wait_too_long_is_not_made_and_takes_no_turn() -> None:
    clock = Clock()
    limiter = Limiter("stripe", 10.0, clock=clock, sleep=clock.sleep)
    clock.now += 10
    for _ in range(17):
        limiter.wait()
    with pytest.raises(NotTried, match="limit of requests to stripe") as refused:
        limiter.wait()
    assert refused.value.retry_after_s is not None
    assert WAIT_S_MAX < refused.value.retry_after_s < WAIT_S_MAX + 0.2
    clock.now += 0.2
    limiter.wait()


def test_one_with_less_time_left_than_its_turn_takes_is_not_made() -> None:
    limiter = Limiter("stripe", 1.0)
    limiter.wait()
    with ending_by(time.monotonic() + 0.1), pytest.raises(NotTried):
        limiter.wait()


def test_many_threads_together_stay_within_the_limit() -> None:
    limiter, made = Limiter("stripe", 200.0), []

    def call() -> None:
        for _ in range(10):
            limiter.wait()
            made.append(time.monotonic())

    threads = [threading.Thread(target=call) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    took = max(made) - min(made)
    assert len(made) == 80
    assert took >= (80 - 1) / 200.0 - BURST_S - 0.05
