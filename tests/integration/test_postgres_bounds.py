"""PostgreSQL's bounds on a client that vanishes in mid-transaction, and the client's on a server that does.

A proxy stops forwarding, which neither side can tell from a peer that is slow. Row locks must be free within 30 s, in
whatever stage of its transaction the client vanished; without bounds they are kept for two hours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from chassis.postgres import database
from chassis.postgres.bounds import SERVER_PARAMETERS, SERVING, Bounds
from chassis.postgres.statement import Statement
from chassis.postgres.transient import TransientRetry, is_transient, transact
from stack import Stack, postgres
from support.postgres import scratch_database
from support.tcp_proxy import TcpProxy, proxy_to
from support.waiting import until

FREE_WITHIN_S = 30.0
LOCK = Statement("SELECT name FROM accounts WHERE name = %(name)s FOR UPDATE")
CHANGE = Statement("UPDATE accounts SET changes = changes + 1 WHERE name = %(name)s")
LOCK_AND_FILL = Statement("SELECT name, repeat('x', 50000000) FROM accounts WHERE name = %(name)s FOR UPDATE")
NOTE = Statement("SELECT length(%(note)s)")
LARGE = "x" * 1_000_000
"""More than libpq keeps before it writes to the socket."""
HELD = text("SELECT 1 FROM accounts WHERE name = :name FOR UPDATE NOWAIT")


def between_statements(tx: Connection, name: str) -> None:
    """Hold the lock, and send nothing more."""
    LOCK.rows(tx, {"name": name})


def in_mid_pipeline(tx: Connection, name: str) -> None:
    """Hold the lock in a pipeline whose end is not sent: PostgreSQL does not count that as idle."""
    LOCK.run(tx, {"name": name})
    NOTE.run(tx, {"note": LARGE})


def in_mid_answer(tx: Connection, name: str) -> None:
    """Hold the lock while PostgreSQL waits for the answer to be taken."""
    LOCK_AND_FILL.run(tx, {"name": name})
    tx.connection.driver_connection.pgconn.pipeline_sync()  # type: ignore[union-attr]
    tx.connection.driver_connection.pgconn.flush()  # type: ignore[union-attr]


STAGES: Mapping[str, Callable[[Connection, str], None]] = {
    "between statements": between_statements,
    "in mid-pipeline": in_mid_pipeline,
    "in mid-answer": in_mid_answer,
}


@pytest.fixture(scope="module")
def accounts(infrastructure: Stack) -> Iterator[Engine]:
    """A database with one account for each stage; the engine itself has no bounds."""
    with scratch_database(infrastructure) as engine:
        with engine.begin() as tx:
            tx.execute(text("CREATE TABLE accounts (name text PRIMARY KEY, changes int NOT NULL DEFAULT 0)"))
            tx.execute(text("INSERT INTO accounts SELECT unnest(CAST(:names AS text[]))"), {"names": list(STAGES)})
        yield engine


def in_pipeline(tx: Connection) -> object:
    return LOCK.rows(tx, {"name": next(iter(STAGES))})


def by_itself(tx: Connection) -> object:
    return tx.execute(text("SELECT 1")).all()


@pytest.fixture
def proxy(infrastructure: Stack) -> Iterator[TcpProxy]:
    ends = infrastructure.endpoints
    with proxy_to(str(ends.postgres_host), int(ends.postgres_port)) as proxy:
        yield proxy


@contextmanager
def bounded(stack: Stack, accounts: Engine, bounds: Bounds = SERVING, *, port: int | None = None) -> Iterator[Engine]:
    """Yield an engine as a service has it, through the proxy's port if there is one."""
    url = accounts.url.set(password=None)
    url = url if port is None else url.set(port=port)
    secret = stack.home / "secrets" / postgres.SUPERUSER
    engine = database.create(url.render_as_string(), Path(secret), application="bounded", bounds=bounds)
    try:
        yield engine
    finally:
        engine.dispose()


def is_locked(accounts: Engine, name: str) -> bool:
    """Return whether another transaction holds the lock of an account."""
    with accounts.connect() as tx:
        try:
            tx.execute(HELD, {"name": name})
        except DBAPIError:
            return True
    return False


def changes(accounts: Engine) -> dict[str, int]:
    with accounts.connect() as tx:
        return {row.name: row.changes for row in tx.execute(text("SELECT name, changes FROM accounts"))}


@pytest.mark.timeout(120)
def test_the_neighbour_of_a_client_that_vanishes_in_mid_transaction_goes_on(
    infrastructure: Stack, accounts: Engine, proxy: TcpProxy
) -> None:
    retry = TransientRetry(threading.Event())
    before = changes(accounts)
    with ExitStack() as stack:
        vanishing = stack.enter_context(bounded(infrastructure, accounts, port=proxy.port))
        neighbours = stack.enter_context(bounded(infrastructure, accounts))
        for name, stage in STAGES.items():
            stage(stack.enter_context(left_open(vanishing)), name)
        for name in STAGES:
            until(lambda name=name: is_locked(accounts, name), f"{name}: the lock is held")
        proxy.vanish()
        with ThreadPoolExecutor(len(STAGES)) as threads:
            waiting = {
                name: threads.submit(retry.transact, neighbours, lambda tx, name=name: CHANGE.run(tx, {"name": name}))
                for name in STAGES
            }
            for future in waiting.values():
                future.result(FREE_WITHIN_S)
    assert changes(accounts) == {name: count + 1 for name, count in before.items()}


@contextmanager
def left_open(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction, and close it without a word to the server."""
    tx = engine.connect()
    tx.begin()
    driver: Any = tx.connection.driver_connection
    try:
        yield tx
    finally:
        driver.close()
        with suppress(DBAPIError):
            tx.close()


@pytest.mark.parametrize("statement", [in_pipeline, by_itself])
def test_a_client_gives_up_a_server_that_answers_nothing_and_its_transaction_is_repeated(
    infrastructure: Stack, accounts: Engine, proxy: TcpProxy, statement: Callable[[Connection], object]
) -> None:
    with bounded(infrastructure, accounts, replace(SERVING, answer_s=3), port=proxy.port) as engine:
        transact(engine, statement)
        proxy.vanish()
        with pytest.raises(DBAPIError, match="sent nothing for 3 s") as raised:
            transact(engine, statement)
        proxy.reappear()
        transact(engine, statement)
    assert is_transient(raised.value)


def locked(engine: Engine, accounts: Engine) -> None:
    """Wait for a lock that another transaction holds."""
    with accounts.begin() as other, engine.begin() as tx:
        other.execute(text("SELECT 1 FROM accounts FOR UPDATE"))
        LOCK.rows(tx, {"name": next(iter(STAGES))})


def slow(engine: Engine, _accounts: Engine) -> None:
    """Run a statement that takes too long."""
    with engine.begin() as tx:
        tx.execute(SLEEP)


def slow_in_pipeline(engine: Engine, _accounts: Engine) -> None:
    """Run a statement of the hot path that takes too long."""
    with engine.begin() as tx:
        SLEEP_IN_PIPELINE.rows(tx, {})


def idle(engine: Engine, accounts: Engine) -> None:
    """Continue a transaction after a break, with a statement of SQLAlchemy."""
    with engine.begin() as tx:
        stand_still(tx, accounts)
        tx.execute(text("SELECT 1"))


def idle_in_pipeline(engine: Engine, accounts: Engine) -> None:
    """Continue a transaction after a break, with a statement of the hot path."""
    with engine.begin() as tx:
        stand_still(tx, accounts)
        LOCK.rows(tx, {"name": "any"})


def stand_still(tx: Connection, accounts: Engine) -> None:
    """Do nothing until PostgreSQL has ended the session."""
    pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()

    def sessions() -> int:
        with accounts.connect() as other:
            return other.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}
            ).scalar_one()

    until(sessions, "the session is ended", holds=lambda count: count == 0)


SLEEP, SLEEP_IN_PIPELINE = text("SELECT pg_sleep(60)"), Statement("SELECT pg_sleep(60)")
NONE = Bounds(lock_s=0, statement_s=0, idle_s=0, transaction_s=0)


@pytest.mark.parametrize(
    ("bounds", "exceed"),
    [
        (replace(NONE, lock_s=1), locked),
        (replace(NONE, statement_s=1), slow),
        (replace(NONE, statement_s=1), slow_in_pipeline),
        (replace(NONE, transaction_s=1), slow),
        (replace(NONE, transaction_s=1), slow_in_pipeline),
        (replace(NONE, idle_s=1), idle),
        (replace(NONE, idle_s=1), idle_in_pipeline),
    ],
)
def test_what_exceeds_a_bound_fails_with_an_error_that_is_repeated(
    infrastructure: Stack, accounts: Engine, bounds: Bounds, exceed: Callable[[Engine, Engine], None]
) -> None:
    with bounded(infrastructure, accounts, bounds) as engine:
        with pytest.raises(DBAPIError) as raised:
            exceed(engine, accounts)
        assert transact(engine, lambda tx: tx.execute(text("SELECT 1")).scalar_one()) == 1
    assert is_transient(raised.value)
    assert isinstance(raised.value, OperationalError), "the HTTP APIs answer 503 to these alone"


def test_the_server_has_its_bounds(accounts: Engine) -> None:
    with accounts.connect() as tx:
        rows = tx.execute(text("SELECT name, setting || coalesce(unit, '') AS value FROM pg_settings"))
        stored = {row.name: row.value for row in rows}
    assert {name: in_ms(stored[name]) for name in SERVER_PARAMETERS} == {
        name: in_ms(value) for name, value in SERVER_PARAMETERS.items()
    }


def in_ms(value: str) -> int:
    """Return a time as PostgreSQL writes it in milliseconds; a number without a unit as it is."""
    number = value.rstrip("abcdefghijklmnopqrstuvwxyz")
    return int(number) * {"ms": 1, "s": 1000, "min": 60_000, "": 1}[value.removeprefix(number)]
