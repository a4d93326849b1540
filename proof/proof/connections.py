"""A connection as handlers and recorder know it, which sends together what nobody waits for.

The statements, their order and their transactions are the product's own. One that returns no rows goes out with the
next that does, or with the commit (libpq's pipeline mode), and little of SQLAlchemy and psycopg stands between: a
schedule is hundreds of small statements, and everything around them took most of its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NoReturn, cast

import psycopg
from psycopg import adapt
from psycopg.abc import Transformer
from psycopg.adapt import PyFormat
from psycopg.errors import LockNotAvailable, error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Connection, TextClause
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.engine.interfaces import ConnectionEventsTarget
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.exc import DBAPIError

from proof.turns import Turn

BEGIN, COMMIT, ROLLBACK = b"BEGIN", b"COMMIT", b"ROLLBACK"
MARK, BACK = b"SAVEPOINT before", b"ROLLBACK TO SAVEPOINT before"
COMMANDS = {command: b"c%d" % number for number, command in enumerate((BEGIN, COMMIT, ROLLBACK, MARK, BACK))}
"""What is prepared on every connection, and under which name."""
PARAMETER = re.compile(r"%\((\w+)\)s")
WORD = re.compile(r"\w+")
WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class Prepared:
    """A statement with psycopg's named parameters, as PostgreSQL takes it: numbered ones, and the names by number."""

    def __init__(self, text: str) -> None:
        self.names: list[str] = []
        self.sql = PARAMETER.sub(self._number, text.strip()).replace("%%", "%").encode()
        self.formats = [PyFormat.AUTO] * len(self.names)
        self.returns_rows = not text.lstrip().startswith(WRITES) or "RETURNING" in text
        self.words = frozenset() if text.lstrip().startswith("SELECT") else frozenset(WORD.findall(text))
        """The words of one that may change something: the tables that it may change are among them."""
        self.is_felt = bool(self.words) or "FOR UPDATE" in text
        """Whether others may notice it, by what it changes or by its locks."""
        self.columns: SimpleResultMetaData | None = None
        """What its rows are made of, once some have come."""

    def _number(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in self.names:
            self.names.append(name)
        return f"${self.names.index(name) + 1}"


_by_text: dict[str, Prepared] = {}
_by_clause: dict[TextClause, Prepared] = {}


def prepared(statement: str | TextClause) -> Prepared:
    """Return a statement of the product, read once; they are constants of its modules."""
    if isinstance(statement, TextClause):
        found = _by_clause.get(statement)
        if found is None:
            text = str(statement.compile(dialect=dialects.dialect()))  # type: ignore[no-untyped-call]
            found = _by_clause[statement] = prepared(text)
        return found
    return _by_text.get(statement) or _by_text.setdefault(statement, Prepared(statement))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a process looks at after a commit, on the same way, where a statement may have changed these tables."""

    statement: str
    tables: frozenset[str]


@dataclass(slots=True)
class Sent:
    """A statement on its way; whoever looks at what it came to waits for it."""

    connection: PipelinedConnection
    statement: Prepared | None
    result: PGresult | None = None

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        return self.arrived.command_tuples or 0

    @property
    def arrived(self) -> PGresult:
        """What PostgreSQL answered."""
        if self.result is None:
            self.connection.flush()
        assert self.result is not None, "a flush brings every answer"
        return self.result

    @property
    def columns(self) -> SimpleResultMetaData:
        """What its rows are made of."""
        assert self.statement is not None, "BEGIN and COMMIT return no rows"
        if self.statement.columns is None:
            arrived = self.arrived
            names = [(arrived.fname(number) or b"").decode() for number in range(arrived.nfields)]
            self.statement.columns = SimpleResultMetaData(names)
        return self.statement.columns

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Its rows."""
        return self.connection.tuples(self.arrived)


class Cursor:
    """What the kit's statements see of psycopg's cursor."""

    def __init__(self, connection: PipelinedConnection) -> None:
        self._connection = connection

    def execute(self, query: str, parameters: Mapping[str, Any]) -> Cursor:
        """Send a statement, and wait for it where it returns rows."""
        self._sent = self._connection.run(prepared(query), parameters)
        return self

    @property
    def description(self) -> list[psycopg.Column]:
        """The columns, of which the kit wants the names."""
        names = self._sent.columns.keys
        return [cast(psycopg.Column, _Column(name)) for name in names]

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        return self._sent.rowcount

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows."""
        return self._sent.rows


@dataclass(frozen=True, slots=True)
class _Column:
    name: str


class Transaction(ConnectionEventsTarget):
    """What the product gets as its Connection: it executes statements, and tells who listens that it is committed."""

    closed = False
    _has_events = False
    """SQLAlchemy sets it where somebody listens."""

    def __init__(self, connection: PipelinedConnection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Transaction:
        """The pooled connection, of which the kit wants the driver's."""
        return self

    @property
    def driver_connection(self) -> Transaction:
        """The driver's connection, of which the kit wants a cursor."""
        return self

    def cursor(self) -> Cursor:
        """Return a cursor."""
        return Cursor(self._connection)

    def invalidate(self, error: BaseException) -> NoReturn:
        """Nobody comes here while PostgreSQL runs."""
        raise AssertionError("a schedule's connection was closed") from error

    def execute(self, clause: TextClause, parameters: Mapping[str, Any] | None = None) -> Any:
        """Execute a statement of SQLAlchemy's."""
        try:
            sent = self._connection.run(prepared(clause), parameters or {})
        except psycopg.Error as error:
            raise _as_product_knows(error) from error
        if sent.statement is None or not sent.statement.returns_rows:
            return sent
        return IteratorResult(sent.columns, iter(sent.rows))

    def tell(self) -> None:
        """Tell whoever listens that it is committed."""
        if self._has_events:
            self.dispatch.commit(self)


@dataclass(slots=True, eq=False, repr=False)
class PipelinedConnection:
    """One process's connection to its service's database."""

    raw: psycopg.Connection
    turn: Turn | None = None
    after_commit: Look | None = None
    seen: list[tuple[Any, ...]] | None = None
    """The rows that were looked at after the last commit; None where it can have changed nothing of them."""
    _transformer: Transformer = field(init=False)
    _names: dict[tuple[bytes, tuple[int, ...]], bytes] = field(default_factory=dict)
    """What is prepared, by its text and the types of its parameters."""
    _preparing: list[tuple[bytes, tuple[int, ...]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _sent: list[Sent] = field(default_factory=list)
    _was_begun: bool = False
    _is_felt: bool = False
    _is_to_look: bool = False

    def __post_init__(self) -> None:
        self._transformer = adapt.Transformer(self.raw)
        for command, name in COMMANDS.items():
            self.raw.pgconn.prepare(name, command)
        self.raw.pgconn.enter_pipeline_mode()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Commit what is executed within, or roll it back where something raises."""
        self._was_begun, self.seen = False, None
        transaction = Transaction(self)
        try:
            yield cast(Connection, transaction)
            self._commit()
        except BaseException:
            self._roll_back()
            raise
        transaction.tell()

    def run(self, statement: Prepared, parameters: Mapping[str, Any]) -> Sent:
        """Send a statement, unless something is in its way, and wait for it where it returns rows.

        Raises psycopg.Error for it, or for one that was sent before it.
        """
        if self.turn is not None:
            self.turn.meet(self.flush)
            if self.turn.is_among_others:
                return self._run_among_others(statement, parameters)
        self._begin()
        sent = self._send(statement, parameters)
        if statement.returns_rows:
            self.flush()
        return sent

    def flush(self) -> None:
        """Wait for everything that is on its way. Raises psycopg.Error for the first that failed."""
        if not self._sent:
            return
        connection, error = self.raw.pgconn, None
        connection.pipeline_sync()
        sent, self._sent = self._sent, []
        for each in sent:
            while (result := connection.get_result()) is not None:
                each.result = result
                if result.status in FAILED and error is None:
                    error = error_from_result(result)
        connection.get_result()  # the end of what was sent together
        preparing, self._preparing = self._preparing, []
        if error is not None:
            for key in preparing:  # they may not have been reached
                del self._names[key]
            raise error

    def tuples(self, result: PGresult) -> list[tuple[Any, ...]]:
        """Return the rows of a result."""
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    def _run_among_others(self, statement: Prepared, parameters: Mapping[str, Any]) -> Sent:
        """Wait for locks as PostgreSQL would, but in virtual time: try, and try again."""
        assert self.turn is not None, "only a turn is among others"
        self.flush()
        for _ in self.turn.tries():
            self._begin()
            self._tell(MARK)
            sent = self._send(statement, parameters)
            try:
                self.flush()
            except LockNotAvailable:
                self._tell(BACK)
                self.flush()
            else:
                return sent
        raise LockNotAvailable("two transactions waited for each other")

    def _commit(self) -> None:
        if not self._was_begun:
            return
        if not self._is_felt:
            self._tell(COMMIT)  # which goes out with whatever comes next: nobody else can tell
            self._was_begun = False
            return
        try:
            self._tell(COMMIT)
            looks, looked = self.after_commit, None
            if looks is not None and self._is_to_look:
                looked = self._send(prepared(looks.statement), {})
            self.flush()
        except psycopg.Error as error:
            raise _as_product_knows(error) from error
        self._was_begun = False
        if looked is not None:
            self.seen = looked.rows

    def _roll_back(self) -> None:
        if not self._was_begun:
            return
        self._was_begun = False
        with suppress(psycopg.Error):  # it failed, which is why it is rolled back
            self.flush()
        self._tell(ROLLBACK)
        self.flush()

    def _begin(self) -> None:
        if not self._was_begun:
            self._was_begun, self._is_felt, self._is_to_look = True, False, False
            self._tell(BEGIN)

    def _tell(self, command: bytes) -> None:
        self.raw.pgconn.send_query_prepared(COMMANDS[command], None)
        self._sent.append(Sent(self, None))

    def _send(self, statement: Prepared, parameters: Mapping[str, Any]) -> Sent:
        connection, transformer = self.raw.pgconn, self._transformer
        dumped = transformer.dump_sequence([parameters[name] for name in statement.names], statement.formats)
        key = statement.sql, transformer.types or ()
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"p{next(self._numbers)}".encode()
            self._preparing.append(key)
            connection.send_prepare(name, *key)
            self._sent.append(Sent(self, None))
        connection.send_query_prepared(name, dumped, transformer.formats)
        sent = Sent(self, statement)
        self._sent.append(sent)
        self._is_felt |= statement.is_felt
        if self.after_commit is not None and not self.after_commit.tables.isdisjoint(statement.words):
            self._is_to_look = True
        return sent


def _as_product_knows(error: psycopg.Error) -> BaseException:
    wrapped: BaseException = DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True)
    return wrapped
