"""The probes: they answer HEAD as GET, and callers at the same time get the same answer."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from chassis.http import health, problem
from chassis.postgres import database
from chassis.postgres.database import Pulse

PROBERS = 8
WAIT_S_MAX = 10.0


class Connecting:
    """Connects to a database once the test lets it, or fails then."""

    def __init__(self, error: Exception | None = None) -> None:
        self.goes_on = threading.Event()
        self.begun = threading.Event()
        self.count = 0
        self._error = error

    def __call__(self) -> sqlite3.Connection:
        self.count += 1
        self.begun.set()
        assert self.goes_on.wait(WAIT_S_MAX)
        if self._error is not None:
            raise self._error
        return sqlite3.connect(":memory:", check_same_thread=False)


def pulse_of(connecting: Connecting) -> Pulse:
    return Pulse(create_engine("sqlite://", creator=connecting, poolclass=NullPool))


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize(("holds", "status"), [(True, 200), (False, 503)])
def test_a_probe_answers_head_as_get(path: str, holds: bool, status: int) -> None:
    app = FastAPI()
    problem.install(app)
    app.include_router(health.router(alive={"it lives": lambda: holds}, ready={"it is ready": lambda: holds}))
    client = TestClient(app, raise_server_exceptions=False)

    assert client.get(path).status_code == status
    head = client.head(path)
    assert (head.status_code, head.content) == (status, b"")
    assert client.post(path).status_code == 405


@pytest.mark.parametrize("error", [None, OperationalError("SELECT 1", {}, Exception("gone"))])
def test_probes_at_the_same_time_get_the_result_of_one_check(error: Exception | None) -> None:
    connecting = Connecting(error)
    pulse = pulse_of(connecting)
    with ThreadPoolExecutor(PROBERS) as threads:
        first = threads.submit(pulse)
        assert connecting.begun.wait(WAIT_S_MAX)
        others = [threads.submit(pulse) for _ in range(PROBERS - 1)]
        assert not wait(others, timeout=0.1).done, "some did not wait for the check under way"
        connecting.goes_on.set()

        assert [each.result(WAIT_S_MAX) for each in (first, *others)] == [error is None] * PROBERS


def test_a_probe_does_not_wait_for_a_check_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PULSE_WAIT_S", 0.05)
    connecting = Connecting()
    pulse = pulse_of(connecting)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(pulse)
        assert connecting.begun.wait(WAIT_S_MAX)
        assert not pulse(), "a database that hangs counted as one that answers"
        connecting.goes_on.set()
        assert first.result(WAIT_S_MAX)
    assert pulse()


def test_a_check_that_raises_ends_for_those_who_wait() -> None:
    connecting = Connecting(RuntimeError("a fault of ours"))
    pulse = pulse_of(connecting)
    connecting.goes_on.set()
    for _ in range(2):
        began_s = time.monotonic()
        with pytest.raises(RuntimeError, match="a fault of ours"):
            pulse()
        assert time.monotonic() - began_s < WAIT_S_MAX
