"""Statements that are sent together have the results, and the failures, that they have one by one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from chassis.postgres.pipeline import PipelinedConnection
from chassis.postgres.statement import Statement
from stack import Stack
from support.postgres import scratch_database

ADD = Statement("INSERT INTO things (name, size) VALUES (%(name)s, %(size)s)")
GROW = Statement("UPDATE things SET size = size + %(by)s WHERE name = ANY(CAST(%(names)s AS text[]))")
SIZES = Statement("SELECT name, size FROM things ORDER BY name")
DIVIDE = Statement("SELECT 1 / CAST(%(by)s AS integer) AS share")
ISOLATION = Statement("SELECT current_setting('transaction_isolation') AS level")
A: dict[str, object] = {"name": "a", "size": 1}
B: dict[str, object] = {"name": "b", "size": 2}


@pytest.fixture(scope="module")
def database(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        with engine.begin() as tx:
            tx.execute(text("CREATE TABLE things (name text PRIMARY KEY, size integer NOT NULL CHECK (size < 100))"))
        yield engine


@pytest.fixture
def engine(database: Engine) -> Iterator[Engine]:
    yield database
    with database.begin() as tx:
        tx.execute(text("TRUNCATE things"))


def stored(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {row.name: row.size for row in SIZES.rows(connection, {})}


def transact(engine: Engine, *sent: tuple[Statement, dict[str, object]]) -> None:
    with engine.begin() as tx:
        for statement, parameters in sent:
            statement.run(tx, parameters)


def driver(tx: Connection) -> PipelinedConnection:
    connection = tx.connection.driver_connection
    assert isinstance(connection, PipelinedConnection)
    return connection


def test_each_statement_sees_the_changes_of_those_before_it(engine: Engine) -> None:
    with engine.begin() as tx:
        ADD.run(tx, A)
        before = SIZES.submit(tx, {})
        ADD.run(tx, B)
        grown = GROW.submit(tx, {"by": 10, "names": ["a", "b", "c"]})
        after = SIZES.submit(tx, {})
        assert [tuple(row) for row in after.rows()] == [("a", 11), ("b", 12)]
        assert [tuple(row) for row in before.rows()] == [("a", 1)]
        assert grown.change_count() == 2
    assert stored(engine) == {"a": 11, "b": 12}


def test_a_statement_of_sqlalchemys_sees_what_was_sent_before_it(engine: Engine) -> None:
    with engine.begin() as tx:
        ADD.run(tx, A)
        assert tx.execute(text("SELECT count(*) FROM things")).scalar_one() == 1
        ADD.run(tx, B)
    assert stored(engine) == {"a": 1, "b": 2}


def test_a_failure_of_a_statement_without_a_wait_prevents_the_commit(engine: Engine) -> None:
    with pytest.raises(IntegrityError) as caught:
        transact(engine, (ADD, A), (ADD, A), (ADD, B))
    diagnosis = getattr(caught.value.orig, "diag", None)
    assert diagnosis is not None
    assert diagnosis.constraint_name == "things_pkey"
    assert stored(engine) == {}


def test_an_error_names_the_statement_that_failed_and_none_of_its_values(engine: Engine) -> None:
    def wait(tx: Connection) -> None:
        ADD.run(tx, {"name": "secret", "size": 100})
        SIZES.rows(tx, {})

    with engine.connect() as connection, pytest.raises(IntegrityError) as caught:
        wait(connection)
    assert "INSERT INTO things" in str(caught.value.statement)
    assert "SELECT" not in str(caught.value.statement)
    assert caught.value.params is None


def test_a_connection_keeps_its_prepared_statements_after_a_failure(engine: Engine) -> None:
    def fail(connection: Connection) -> None:
        with connection.begin():
            GROW.run(connection, {"by": 1, "names": ["a"]})
            connection.execute(text("SELECT name FROM things"))
            DIVIDE.rows(connection, {"by": 0})

    transact(engine, (ADD, A))
    with engine.connect() as connection:
        for _ in range(8):  # so often that psycopg prepares a statement too; its rollback would then drop all of them
            with pytest.raises(DataError):
                fail(connection)
            with connection.begin():
                GROW.run(connection, {"by": 10, "names": ["a"]})
                assert DIVIDE.rows(connection, {"by": 1})[0].share == 1
    assert stored(engine) == {"a": 81}


def test_a_rollback_undoes_what_was_sent_and_not_settled(engine: Engine) -> None:
    with engine.connect() as connection:
        transaction = connection.begin()
        ADD.run(connection, A)
        transaction.rollback()
        assert SIZES.rows(connection, {}) == []


def test_a_connection_without_a_transaction_begins_one_and_commits_it(engine: Engine) -> None:
    with engine.connect() as connection:
        ADD.run(connection, A)
        connection.commit()
    assert stored(engine) == {"a": 1}


def test_a_value_that_cannot_be_sent_fails_its_transaction_and_not_the_connection(engine: Engine) -> None:
    with pytest.raises(DataError):
        transact(engine, (ADD, A), (ADD, {"name": "b\x00", "size": 1}))
    assert stored(engine) == {}


def test_a_lost_connection_raises_an_operational_error_and_is_replaced(engine: Engine) -> None:
    lost: list[PipelinedConnection] = []

    def lose(killer: Connection) -> None:
        with engine.begin() as victim:
            lost.append(driver(victim))
            killer.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": lost[0].info.backend_pid})
            ADD.run(victim, A)

    with engine.connect() as killer, pytest.raises(OperationalError):
        lose(killer)
    assert lost[0].closed
    assert stored(engine) == {}
    with engine.begin() as tx:
        assert driver(tx) is not lost[0]
        ADD.run(tx, B)
    assert stored(engine) == {"b": 2}


def test_a_transaction_has_the_requested_isolation_level(engine: Engine) -> None:
    with engine.execution_options(isolation_level="REPEATABLE READ").begin() as tx:
        assert ISOLATION.rows(tx, {})[0].level == "repeatable read"
    with engine.begin() as tx:
        assert ISOLATION.rows(tx, {})[0].level == "read committed"


def test_more_than_a_socket_holds_can_be_sent_and_received(engine: Engine) -> None:
    echo = Statement("SELECT CAST(%(value)s AS text) AS value")
    with engine.begin() as tx:
        pending = [echo.submit(tx, {"value": str(number % 10) * 2_000_000}) for number in range(8)]
        found = [each.rows()[0].value for each in pending]
    assert [(value[0], len(value)) for value in found] == [(str(number % 10), 2_000_000) for number in range(8)]
