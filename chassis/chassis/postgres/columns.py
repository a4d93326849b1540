"""Parts of SQL that list columns, made of a table's declaration, so that no statement repeats its columns by hand.

A statement stays SQL in plain view; only its lists come from here. This module must never make a whole statement, or
put a value into one: values are parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, JSON, Table
from sqlalchemy import Column as DeclaredColumn
from sqlalchemy.dialects.postgresql import psycopg

PSYCOPG = "%({})s"
"""A parameter of a :class:`~chassis.postgres.statement.Statement`."""
SQLALCHEMY = ":{}"
"""A parameter of SQLAlchemy's ``text``."""
ABBREVIATIONS = {"timestamp with time zone": "timestamptz"}

_DIALECT = psycopg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects have no annotations

Source: TypeAlias = str | Callable[[Any], Any]
"""Where a column's value comes from: an attribute of an object, ``raw.topic`` also, or a function of the object."""


class UnknownColumn(ValueError):
    """A column that the list does not have; the message names those that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a batch. ``identifier`` is the name as SQL writes it, in quotes where PostgreSQL reserves it.

    ``sent_type`` is the type in which values are sent. Arrays and documents are sent as text, because unnest would
    take an array of arrays apart, and are cast to ``type`` when they are stored.
    """

    name: str
    identifier: str
    type: str
    sent_type: str
    is_key: bool
    source: Source

    @classmethod
    def of(cls, declared: DeclaredColumn[Any], source: Source) -> Column:
        """Return a column as its table declares it."""
        type_ = declared.type.compile(dialect=_DIALECT).lower()
        type_ = ABBREVIATIONS.get(type_, type_)
        return cls(
            name=declared.name,
            identifier=_DIALECT.identifier_preparer.quote(declared.name),
            type=type_,
            sent_type="text" if isinstance(declared.type, ARRAY | JSON) else type_,
            is_key=declared.primary_key,
            source=source,
        )

    def stored(self, prefix: str = "") -> str:
        """Return the expression that turns the value as it was sent into the value as it is stored."""
        value = f"{prefix}{self.identifier}"
        return value if self.type == self.sent_type else f"CAST({value} AS {self.type})"


class Columns:
    """Some columns of a table in the order of its declaration, and the lists that a statement makes of them.

    The rows of a batch are sent as one array for each column, and the statement reads them from :attr:`rows`, which is
    a table named ``row``.
    """

    def __init__(self, columns: Sequence[Column], parameter: str = PSYCOPG) -> None:
        self._columns = tuple(columns)
        self._parameter = parameter
        self._read = _reader(self._columns)

    @classmethod
    def of(
        cls,
        table: Table,
        *,
        without: Collection[str] = (),
        sources: Mapping[str, Source] | None = None,
        parameter: str = PSYCOPG,
    ) -> Columns:
        """Return the columns of a table; a column that ``sources`` does not name is the attribute of the same name."""
        sources = sources or {}
        found = [Column.of(each, sources.get(each.name, each.name)) for each in table.columns]
        columns = cls(found, parameter)
        columns._check(sources)
        return columns.without(*without)

    def only(self, *names: str) -> Columns:
        """Return these columns, in the order of the declaration. Raises UnknownColumn."""
        self._check(names)
        return Columns([each for each in self._columns if each.name in names], self._parameter)

    def without(self, *names: str) -> Columns:
        """Return all columns but these. Raises UnknownColumn."""
        self._check(names)
        return Columns([each for each in self._columns if each.name not in names], self._parameter)

    def __add__(self, other: Columns) -> Columns:
        """Return these columns and those of another table, whose rows come in the same batch."""
        return Columns([*self._columns, *other._columns], self._parameter)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the columns."""
        return iter([each.name for each in self._columns])

    @property
    def names(self) -> str:
        """The columns of a SELECT or an INSERT: ``id, "offset"``."""
        return self.names_in()

    def names_in(self, table: str = "") -> str:
        """Return the columns with the table's name before each: ``known.id, known."offset"``."""
        prefix = f"{table}." if table else ""
        return ", ".join(f"{prefix}{each.identifier}" for each in self._columns)

    @property
    def values(self) -> str:
        """What a SELECT from :attr:`rows` stores in these columns: ``id, CAST(document AS jsonb)``."""
        return ", ".join(each.stored() for each in self._columns)

    @property
    def rows(self) -> str:
        """The rows that were sent, for a FROM: ``unnest(CAST(%(id)s AS text[]), …) AS row (id, …)``."""
        return f"{self._unnested} AS row ({self.names})"

    @property
    def ordered_rows(self) -> str:
        """The rows that were sent, with a further column ``ordinal`` that counts them."""
        return f"{self._unnested} WITH ORDINALITY AS row ({self.names}, ordinal)"

    @property
    def assignments(self) -> str:
        """The SET list of an UPDATE from :attr:`rows`, without the primary key: ``state = row.state, …``."""
        return ", ".join(f"{each.identifier} = {each.stored('row.')}" for each in self._columns if not each.is_key)

    @property
    def excluded_assignments(self) -> str:
        """The SET list of an ON CONFLICT DO UPDATE, without the primary key: ``state = excluded.state, …``."""
        return ", ".join(f"{each.identifier} = excluded.{each.identifier}" for each in self._columns if not each.is_key)

    def parameters(self, objects: Sequence[Any]) -> dict[str, Any]:
        """Return the parameters that send these objects: for each column the list of its values."""
        return self._read(objects)

    @property
    def _unnested(self) -> str:
        arrays = (f"CAST({self._parameter.format(each.name)} AS {each.sent_type}[])" for each in self._columns)
        return f"unnest({', '.join(arrays)})"

    def _check(self, names: Collection[str]) -> None:
        for name in names:
            if name not in self:
                raise UnknownColumn(
                    f"No column {name!r}; there are: {', '.join(self)}. Compare the table's declaration."
                )


def _reader(columns: Sequence[Column]) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """Return a function that reads each column's values from objects.

    It is compiled from the column names, as a dataclass is: it costs what comprehensions written by hand cost, a third
    of what ``attrgetter`` costs.
    """
    functions = {f"read_{each.name}": each.source for each in columns if callable(each.source)}
    values = {
        each.name: f"row.{each.source}" if isinstance(each.source, str) else f"read_{each.name}(row)"
        for each in columns
    }
    lists = ", ".join(f"{name!r}: [{value} for row in rows]" for name, value in values.items())
    reader: Callable[[Sequence[Any]], dict[str, Any]] = eval(f"lambda rows: {{{lists}}}", functions)
    return reader
