"""SQL over the ledger's entries in the lake. It only reads, reaches no network, and loads no extension."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from baraza.terminal import Refusal, UsageRefusal

VIEW: Final = "entries"
READING: Final = ("SELECT", "EXPLAIN")
ROWS_AT_ONCE: Final = 10_000
SEALED: Final = (
    "SET enable_external_access = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET lock_configuration = true",
)
"""No statement can undo the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of a query: the names of its columns, and its rows as they are read."""

    columns: Sequence[str]
    rows: Iterator[Sequence[Any]]


def query(lake_url: str, sql: str) -> Found:
    """Return the result of one SELECT over the table ``entries``. Raises Refusal, or UsageRefusal for another one."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.register(VIEW, _entries(lake_url))
    for setting in SEALED:
        connection.execute(setting)
    try:
        statements = duckdb.extract_statements(sql)
        kinds = [statement.type.name for statement in statements]
        if len(kinds) != 1 or kinds[0] not in READING:
            raise UsageRefusal(f"One SELECT over the table {VIEW} is expected, not {', '.join(kinds) or 'nothing'}.")
        result = connection.execute(statements[0])
        columns = [name for name, *_ in result.description or ()]
    except duckdb.Error as error:
        raise UsageRefusal(f"DuckDB: {error}") from error
    return Found(columns=columns, rows=_rows(result))


def _rows(result: Any) -> Iterator[Sequence[Any]]:
    while rows := result.fetchmany(ROWS_AT_ONCE):
        yield from rows


def _entries(lake_url: str) -> Any:
    """Return the entries of every day, with the day of each as a column."""
    import pyarrow as pa
    import pyarrow.dataset as pads

    from reconciliation.entries import FOLDER, SCHEMA, current
    from reconciliation.lake import Lake

    schema = SCHEMA.append(pa.field("day", pa.date32()))
    try:
        lake = Lake(lake_url)
        names = current(lake.names(FOLDER))
    except (OSError, ValueError) as error:
        raise Refusal(f"The lake {lake_url} cannot be read: {error}") from error
    if not names:
        return schema.empty_table()
    return pads.dataset(
        [lake.path(name) for name in names],
        schema=schema,
        format="parquet",
        filesystem=lake.files,
        partitioning=pads.partitioning(pa.schema([("day", pa.date32())]), flavor="hive"),
        partition_base_dir=lake.path(FOLDER),
    )
