"""The circuit breaker around a block: which ends count as failures, which as answers, and which as neither."""

from __future__ import annotations

import asyncio

import pytest

from chassis.http.breaker import CircuitBreaker, CircuitOpen, CircuitState

OPEN_S = 5.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def half_open(clock: Clock) -> CircuitBreaker:
    """Return a breaker whose next call is the probe."""
    breaker = CircuitBreaker("redis", failures_max=1, open_s=OPEN_S, clock=clock)
    with pytest.raises(OSError, match="away"), breaker.call(OSError):
        raise OSError("away")
    clock.now_s += OPEN_S
    return breaker


def test_a_probe_that_is_cancelled_proves_nothing_and_leaves_the_next_one_to_decide() -> None:
    clock = Clock()
    breaker = half_open(clock)
    with pytest.raises(asyncio.CancelledError), breaker.call(OSError):
        raise asyncio.CancelledError
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitOpen), breaker.call(OSError):
        pass
    clock.now_s += OPEN_S
    with breaker.call(OSError):
        pass
    assert breaker.state is CircuitState.CLOSED


def test_a_cancelled_call_of_a_closed_circuit_is_no_failure() -> None:
    breaker = CircuitBreaker("redis", failures_max=1, open_s=OPEN_S, clock=Clock())
    with pytest.raises(asyncio.CancelledError), breaker.call(OSError):
        raise asyncio.CancelledError
    assert breaker.state is CircuitState.CLOSED


def test_an_answer_that_is_an_error_of_another_kind_closes_the_circuit() -> None:
    breaker = half_open(Clock())
    with pytest.raises(ValueError, match="bad request"), breaker.call(OSError):
        raise ValueError("bad request")
    assert breaker.state is CircuitState.CLOSED
