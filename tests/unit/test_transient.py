"""The retry of transient faults, with waits that the test sees instead of waiting for them."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from structlog.testing import capture_logs

from chassis.postgres.transient import ATTEMPTS_MAX, FIRST_WAIT_S, TransientRetry, is_transient, share_keys
from chassis.wire.registry import RegistryUnavailable


class Waits(threading.Event):
    """An event that is never set, and notes how long it was to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_s.append(timeout or 0.0)
        return False


class Failing:
    """An attempt that fails with this fault, so often."""

    def __init__(self, fault: Exception, times: int) -> None:
        self.fault = fault
        self.left = times
        self.attempts = 0

    def __call__(self) -> str:
        self.attempts += 1
        if self.left == 0:
            return "done"
        self.left -= 1
        raise self.fault


UNAVAILABLE = OperationalError("SELECT 1", None, Exception("connection refused"))


def test_a_transient_fault_is_repeated_until_it_is_over() -> None:
    stopping, signs = Waits(), []
    attempt = Failing(UNAVAILABLE, times=3)
    assert TransientRetry(stopping, on_wait=lambda: signs.append("alive")).repeat(attempt) == "done"
    assert (attempt.attempts, len(stopping.waits_s), len(signs)) == (4, 3, 3)


def test_waits_double_and_the_last_fault_is_raised_when_the_attempts_are_exhausted() -> None:
    stopping = Waits()
    attempt = Failing(UNAVAILABLE, times=100)
    with pytest.raises(OperationalError) as raised:
        TransientRetry(stopping).repeat(attempt)
    assert raised.value is UNAVAILABLE
    assert attempt.attempts == ATTEMPTS_MAX
    for number, wait_s in enumerate(stopping.waits_s):
        assert 0.5 <= wait_s / (FIRST_WAIT_S * 2**number) <= 1.5, "spread, so that processes do not return together"
    assert len(stopping.waits_s) == ATTEMPTS_MAX - 1


def test_a_fault_that_would_only_come_again_is_raised_at_once() -> None:
    stopping = Waits()
    attempt = Failing(ProgrammingError("SELECT", None, Exception("syntax")), times=1)
    with pytest.raises(ProgrammingError):
        TransientRetry(stopping).repeat(attempt)
    assert (attempt.attempts, stopping.waits_s) == (1, [])


@pytest.mark.parametrize(
    ("fault", "dependency"), [(UNAVAILABLE, "PostgreSQL"), (RegistryUnavailable("no answer"), "The schema registry")]
)
def test_a_retry_is_logged_with_the_dependency_that_is_unavailable(fault: Exception, dependency: str) -> None:
    with capture_logs() as logs:
        TransientRetry(Waits()).repeat(Failing(fault, times=1))
    (line,) = logs
    assert line["event"] == f"{dependency} is unavailable, retrying."
    assert (line["dependency"], line["error"], line["log_level"]) == (dependency, str(fault), "warning")


class Violation(Exception):
    """What psycopg raises for a violated constraint of this name."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.diag = type("Diagnostic", (), {"constraint_name": constraint})()


def test_only_keys_that_are_declared_as_shared_are_repeated() -> None:
    violation = IntegrityError("INSERT", None, Violation("references_of_this_test"))
    assert not is_transient(violation)
    share_keys("references_of_this_test")
    assert is_transient(violation)
    assert is_transient(IntegrityError("INSERT", None, Violation("effects_pkey")))
