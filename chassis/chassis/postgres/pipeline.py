"""A connection that sends statements together: one waits only when somebody needs what it came to.

A round trip to PostgreSQL costs a busy machine four turns at its processors, and a small batch is little else than
round trips. In libpq's pipeline mode it takes three of them where statement by statement it took nine: what was
asked, what the handler loads, and all that is saved, with the commit.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Mapping
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
"""A plan is kept as it was made. One that was made while a table was empty, and read the whole of it, would go on
reading the whole of it until PostgreSQL takes stock: minutes, in which a table may have come to a million rows. And a
bitmap never learns which of an index's entries are dead, which are most of a queue's."""
OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)

Row = TypeVar("Row")


class Query:
    """A statement with psycopg's named parameters, ``%(name)s``, as PostgreSQL takes it: with numbered ones."""

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
    """A statement on its way. Whoever asks what it came to waits; psycopg.Error says that it, or one before, failed."""

    __slots__ = ("_connection", "query", "result")

    def __init__(self, connection: PipelinedConnection, query: Query) -> None:
        self._connection = connection
        self.query = query
        self.result: PGresult | None = None

    @property
    def change_count(self) -> int:
        """How many rows it changed."""
        return self._arrived().command_tuples or 0

    def column_names(self) -> list[str]:
        """Return the names of its columns."""
        arrived = self._arrived()
        return [(arrived.fname(number) or b"").decode() for number in range(arrived.nfields)]

    def rows(self, make: Callable[[Any], Row]) -> list[Row]:
        """Return its rows, each made of a sequence of its values."""
        return self._connection.read(self._arrived(), make)

    def _arrived(self) -> PGresult:
        if self.result is None:
            self._connection.settle()
        assert self.result is not None, "every statement has its answer once all have come"
        return self.result


class PipelinedConnection(psycopg.Connection[Any]):
    """A connection of psycopg's that can also :meth:`send`. What it sent is settled before anything else is done."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sent: list[Sent] = []
        self._statement_names: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        """The names of what is prepared, by its text and the types of its parameters."""
        self._unnamed_yet: list[tuple[bytes, tuple[int, ...]]] = []
        self._numbers = count()
        self._made: Transformer | None = None
        self.failed: Query | None = None
        """The statement that failed last; the error is raised by whatever waited for it, or for a later one."""

    def send(self, query: Query, parameters: Mapping[str, Any]) -> Sent:
        """Send a statement in the transaction that is open, or in a new one, without waiting for it."""
        if not self._sent:
            self.pgconn.enter_pipeline_mode()
            if self.pgconn.transaction_status == TransactionStatus.IDLE and not self.autocommit:
                self._send(self._begin(), {})
        return self._send(query, parameters)

    def settle(self) -> None:
        """Wait for everything that is on its way. Raises psycopg.Error for the first that failed."""
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
            self._next()  # the end of what was sent together
        except BaseException:
            self.close()  # nobody could tell any more which answer is whose
            raise
        connection.exit_pipeline_mode()
        if error is not None:
            for key in preparing:  # they may not have been reached
                del self._statement_names[key]
            raise error

    def read(self, result: PGresult, make: Callable[[Any], Row]) -> list[Row]:
        """Return the rows of a result."""
        transformer = self._transformer()
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, make)

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """Return a cursor of psycopg's, for statements that are waited for."""
        self.settle()
        return super().cursor(*arguments, **options)

    def commit(self) -> None:
        """Commit, in the same round trip as what was not waited for."""
        if self._sent:
            self._send(COMMIT, {})
            self.settle()
        else:
            super().commit()

    def rollback(self) -> None:
        """Roll back; what is on its way and fails is rolled back with the rest.

        psycopg's own way would let PostgreSQL forget everything that is prepared.
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
        """Write what the socket takes; what it does not take may wait for us to read."""
        while self.pgconn.flush():
            self._wait(select.POLLIN | select.POLLOUT)
            self.pgconn.consume_input()

    def _next(self) -> PGresult | None:
        """Return the next result, None between two statements; other threads run meanwhile."""
        while self.pgconn.is_busy():
            self._wait(select.POLLIN)
            self.pgconn.consume_input()
        return self.pgconn.get_result()

    def _wait(self, wanted: int) -> None:
        poll = select.poll()
        poll.register(self.pgconn.socket, wanted)
        poll.poll()


def send_together(engine: Engine) -> None:
    """Let every connection of this engine be a :class:`PipelinedConnection`."""

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> PipelinedConnection:
        connection: PipelinedConnection = PipelinedConnection.connect(*arguments, **parameters)
        connection.execute(BY_INDEX)
        connection.commit()
        return connection
