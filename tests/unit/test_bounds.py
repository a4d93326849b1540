"""The bounds of connections to PostgreSQL, compared with one another and with what depends on them."""

from __future__ import annotations

import pytest
from psycopg.conninfo import make_conninfo

from chassis.postgres.bounds import (
    AUDITING,
    CONNECT_TIMEOUT_S,
    KEEPALIVE_COUNT,
    KEEPALIVE_IDLE_S,
    KEEPALIVE_INTERVAL_S,
    MIGRATING,
    QUERYING,
    SERVING,
    UNACKNOWLEDGED_S,
    Bounds,
)
from chassis.postgres.database import POOL_WAIT_S
from chassis.postgres.transient import ATTEMPTS_MAX
from chassis.process.service import LOOP_AGE_MAX_S
from saga_tracker.main import TICK_AGE_MAX_S

NEIGHBOUR_GOES_ON_S = 30


def test_the_locks_of_a_service_that_vanished_are_free_before_its_neighbour_counts_as_hanging() -> None:
    noticed_s = max(KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT, UNACKNOWLEDGED_S)
    held_s = max(noticed_s, SERVING.transaction_s)
    assert held_s < NEIGHBOUR_GOES_ON_S
    assert SERVING.lock_s * ATTEMPTS_MAX > held_s, "the neighbour ends before the locks are free"


def test_a_worker_that_waits_shows_a_sign_of_life_in_time() -> None:
    longest_s = max(SERVING.lock_s, SERVING.statement_s, SERVING.answer_s, POOL_WAIT_S + CONNECT_TIMEOUT_S)
    assert longest_s < min(LOOP_AGE_MAX_S, TICK_AGE_MAX_S)


def test_a_client_outlasts_the_servers_bounds_so_that_it_hears_of_them() -> None:
    assert SERVING.lock_s < SERVING.statement_s < SERVING.transaction_s < SERVING.answer_s
    assert SERVING.idle_s < SERVING.transaction_s


@pytest.mark.parametrize("bounds", [SERVING, QUERYING, MIGRATING, AUDITING])
def test_every_kind_of_client_has_bounds_on_locks_statements_and_idle_transactions(bounds: Bounds) -> None:
    assert min(bounds.lock_s, bounds.statement_s, bounds.idle_s) > 0
    assert all(f"-c {name}=" in bounds.options for name in ("lock_timeout", "statement_timeout", "transaction_timeout"))
    assert make_conninfo(**bounds.arguments)
