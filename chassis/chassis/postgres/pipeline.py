"""A connection that sends statements without waiting for each; it waits only when a result is needed.

On a busy machine one round trip to PostgreSQL waits for a processor four times, and a small batch is little else than
round trips. In libpq's pipeline mode a batch takes three of them in place of nine: one for what the batch itself loads,
one for what the handler loads, and one for everything that is saved, with the commit.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

import psycopg
from psycopg import adapt
from psycopg.abc import Transformer
from psycopg.adapt import PyFormat
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Engine, event

PARAMETER = re.compile(r"%\((\w+)\)s")
BY_INDEX = "SET enable_seqscan = off; SET enable_bitmapscan = off"
"""A prepared statement keeps its plan. A plan that was made while a table was empty scans the whole table, and goes on
doing so until PostgreSQL analyses the table: minutes, in which it may have grown to a million rows. And a bitmap scan
never marks the dead entries of an index, which are most of a queue's entries."""
OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)

Row = TypeVar("Row")


class Query:
    """A statement with psycopg's named parameters, ``%(name)s``, in the form of PostgreSQL: with numbered ones."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._names: list[str] = []
        self.sql = PARAMETER.sub(self._number, text.strip()).encode()
        self.formats = [PyFormat.AUTO] * len(self._names)

    def values(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the parameters in the order of their numbers."""
        return [parameters[name] for name in self._names]

    def _number(self, match: re.Match[str]) -> str:
        if match[1] not in self._names:
            self._names.append(match[1])
        return f"${self._names.index(match[1]) + 1}"


BEGIN, COMMIT, ROLLBACK = Query("BEGIN"), Query("COMMIT"), Query("ROLLBACK")


class Sent:
    """A statement that was sent. Reading its result waits, and raises psycopg.Error if it or one before it failed."""

    __slots__ = ("_connection", "query", "result")

    def __init__(self, connection: PipelinedConnection, query: Query) -> None:
        self._connection = connection
        self.query = query
        self.result: PGresult | None = None

    @property
    def change_count(self) -> int:
        """How many rows the statement changed."""
        return self._arrived().command_tuples or 0

    def column_names(self) -> list[str]:
        """Return the names of the result's columns."""
        arrived = self._arrived()
        return [(arrived.fname(number) or b"").decode() for number in range(arrived.nfields)]

    def rows(self, make: Callable[[Any], Row]) -> list[Row]:
        """Return the result's rows, each made of a sequence of its values."""
        return self._connection.read(self._arrived(), make)

    def _arrived(self) -> PGresult:
        if self.result is None:
            self._connection.settle()
        assert self.result is not None, "every statement has a result once all are settled"
        return self.result


class PipelinedConnection(psycopg.Connection[Any]):
    """A psycopg connection that can also :meth:`send`. Sent statements are settled before any other statement runs."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sent: list[Sent] = []
        self._statement_names: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        """The names of the prepared statements, by text and parameter types."""
        self._unnamed_yet: list[tuple[bytes, tuple[int, ...]]] = []
        self._numbers = count()
        self._made: Transformer | None = None
        self.answer_s: float = 0
        """How long it waits for PostgreSQL's next byte; 0: without a limit."""
        self.failed: Query | None = None
        """The statement that failed last. The wait for it, or for a later statement, raises its error."""

    def send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Send a statement in the open transaction, or in a new one, without waiting for its result."""
        if not self._sent:
            self.pgconn.enter_pipeline_mode()
            if self.pgconn.transaction_status == TransactionStatus.IDLE and not self.autocommit:
                self._send(self._begin(), {})
        return self._send(query, parameters)

    def settle(self) -> None:
        """Wait for the results of all sent statements. Raises psycopg.Error for the first that failed."""
        if not self._sent:
            return
        connection, error = self.pgconn, None
        sent, self._sent = self._sent, []
        preparing, self._unnamed_yet = self._unnamed_yet, []
        try:
            connection.pipeline_sync()
            self._flush()
            for each in sent:
                while (result := self._next()) is not None:
                    each.result = result
                    if result.status in FAILED and error is None:
                        error, self.failed = error_from_result(result), each.query
            self._next()  # the sync that ends the pipeline
        except BaseException:
            self.close()  # results could no longer be assigned to their statements
            raise
        connection.exit_pipeline_mode()
        if error is not None:
            for key in preparing:  # PostgreSQL may not have reached them
                del self._statement_names[key]
            raise error

    def read(self, result: PGresult, make: Callable[[Any], Row]) -> list[Row]:
        """Return the rows of a result."""
        transformer = self._transformer()
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, make)

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Wait for what psycopg itself has sent, as for what was sent in a pipeline."""
        return super().wait(self._until_silent(gen) if self.answer_s else gen, *arguments, **options)

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """Return a psycopg cursor, for statements whose result is waited for."""
        self.settle()
        return super().cursor(*arguments, **options)

    def commit(self) -> None:
        """Commit, in the same round trip as the statements that are not settled yet."""
        if self._sent:
            self._send(COMMIT, {})
            self.settle()
        else:
            super().commit()

    def rollback(self) -> None:
        """Roll back. A sent statement that fails meanwhile is rolled back with the rest, and raises nothing.

        psycopg's own rollback would also drop all prepared statements.
        """
        with suppress(psycopg.Error):
            self.settle()
        if self.closed:
            super().rollback()
        elif self.pgconn.transaction_status in OPEN:
            self.send(ROLLBACK, {})
            self.settle()

    def _begin(self) -> Query:
        level = self.isolation_level
        return BEGIN if level is None else Query(f"BEGIN ISOLATION LEVEL {level.name.replace('_', ' ')}")

    def _send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        connection, transformer = self.pgconn, self._transformer()
        values: Any = transformer.dump_sequence(query.values(parameters), query.formats)
        key = query.sql, transformer.types or ()
        name = self._statement_names.get(key)
        if name is None:
            name = self._statement_names[key] = b"pipeline_%d" % next(self._numbers)
            self._unnamed_yet.append(key)
            connection.send_prepare(name, *key)
            self._sent.append(Sent(self, query))
        connection.send_query_prepared(name, values, transformer.formats)
        sent = Sent(self, query)
        self._sent.append(sent)
        return sent

    def _transformer(self) -> Transformer:
        if self._made is None:
            self._made = adapt.Transformer(self)
        return self._made

    def _flush(self) -> None:
        """Write everything to the socket. Where it is full, PostgreSQL may be waiting for its results to be read."""
        while self.pgconn.flush():
            self._wait(select.POLLIN | select.POLLOUT)
            self.pgconn.consume_input()

    def _next(self) -> PGresult | None:
        """Return the next result, None between two statements. Other threads run while it waits."""
        while self.pgconn.is_busy():
            self._wait(select.POLLIN)
            self.pgconn.consume_input()
        return self.pgconn.get_result()

    def _wait(self, wanted: int) -> None:
        """Wait for the socket. Raises OperationalError after ``answer_s``: through a proxy no keepalive would fail."""
        poll = select.poll()
        poll.register(self.pgconn.socket, wanted)
        if not poll.poll(self.answer_s * 1000 if self.answer_s else None):
            raise self._silence()

    def _until_silent(self, gen: Any) -> Generator[Any, Any, Any]:
        """Pass on what psycopg waits for. Raises OperationalError once the socket was not ready for ``answer_s``."""
        try:
            wanted, ready_at_s = next(gen), time.monotonic()
            while True:
                ready = yield wanted
                if ready:
                    ready_at_s = time.monotonic()
                elif time.monotonic() - ready_at_s > self.answer_s:
                    self.close()  # its answer could only come later, to another question
                    raise self._silence()
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    def _silence(self) -> psycopg.OperationalError:
        return psycopg.OperationalError(f"PostgreSQL sent nothing for {self.answer_s} s; the connection is closed")


def send_together(engine: Engine, *, answer_s: float = 0) -> None:
    """Let every connection of this engine be a :class:`PipelinedConnection` that waits ``answer_s`` for an answer."""

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> PipelinedConnection:
        connection: PipelinedConnection = PipelinedConnection.connect(*arguments, **parameters)
        connection.answer_s = answer_s
        connection.execute(BY_INDEX)
        connection.commit()
        return connection
