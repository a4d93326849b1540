"""The ledger's entries in the lake: written whole, written again after a crash, merged by day, and queried."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from baraza.system.entries import query
from baraza.terminal import UsageRefusal
from reconciliation import entries
from reconciliation.lake import Lake
from support.reconciling import NOON, Reconciled, both, capture, refund

SNOWFLAKE = 9_100_000_000_000_000_000


def fill(books: Reconciled) -> int:
    """Write every file that is due, and return how many there were."""
    for written in range(100):
        with books.engine.begin() as tx:
            if not books.service.fill_lake(tx):
                return written
    raise AssertionError("there was always one more file to write")


def ids(folder: Path) -> list[tuple[object, ...]]:
    found = query(str(folder), "SELECT payment_id, amount_minor FROM entries ORDER BY 1, 2")
    return [tuple(row) for row in found.rows]


def test_an_hour_becomes_a_file_and_a_closed_day_becomes_one(books: Reconciled, tmp_path: Path) -> None:
    account = books.account("stripe")
    first, second = SNOWFLAKE, SNOWFLAKE + 1
    books.record(*both(capture(account, first, 2**40)))
    books.record(*both(refund(account, first, 5, 40, occurred_at=NOON + timedelta(hours=2))))
    assert fill(books) == 0, "an hour is written once it is over"
    books.now = NOON + timedelta(hours=3, minutes=5)
    assert fill(books) == 2
    assert books.lake.names("entries") == [f"entries/day=2026-03-04/hour={hour}.parquet" for hour in (12, 14)]
    assert ids(tmp_path / "lake") == [(first, -40), (first, 2**40)]
    schema = pq.read_schema(tmp_path / "lake" / "entries" / "day=2026-03-04" / "hour=12.parquet")
    assert {name: str(schema.field(name).type) for name in ("payment_id", "amount_minor", "fee_minor")} == {
        "payment_id": "int64", "amount_minor": "int64", "fee_minor": "int64",
    }  # fmt: skip
    assert not any("float" in str(field.type) or "double" in str(field.type) for field in schema)
    books.now = NOON + timedelta(hours=13, minutes=5)
    assert fill(books) == 1
    assert books.lake.names("entries") == ["entries/day=2026-03-04/day.parquet"]
    books.record(*both(capture(account, second, 7)))  # recorded a day late
    assert fill(books) == 2
    assert books.lake.names("entries") == ["entries/day=2026-03-04/day.parquet"]
    assert ids(tmp_path / "lake") == [(first, -40), (first, 2**40), (second, 7)]
    assert fill(books) == 0


def test_a_crash_between_file_and_commit_is_made_good_by_the_next_write(books: Reconciled, tmp_path: Path) -> None:
    account = books.account("stripe")
    books.record(*both(capture(account, SNOWFLAKE, 5)))
    books.now = NOON + timedelta(days=1)
    for _ in range(3):
        tx = books.engine.connect()
        books.service.fill_lake(tx)
        tx.rollback()  # the file is there, and no row says so
        tx.close()
    assert fill(books) == 2
    assert ids(tmp_path / "lake") == [(SNOWFLAKE, 5)]


def test_a_reader_sees_no_entry_twice_while_a_day_is_merged(books: Reconciled, tmp_path: Path) -> None:
    account = books.account("stripe")
    books.record(*both(capture(account, SNOWFLAKE, 5)))
    books.now = NOON + timedelta(hours=2)
    fill(books)
    hour = books.lake.read("entries/day=2026-03-04/hour=12.parquet")
    books.now = NOON + timedelta(days=1)
    fill(books)
    books.lake.write("entries/day=2026-03-04/hour=12.parquet", hour)  # as after a crash before its removal
    assert ids(tmp_path / "lake") == [(SNOWFLAKE, 5)]


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.write("entries/a.parquet", b"before")
    with pytest.raises(TypeError):
        lake.write("entries/a.parquet", None)  # type: ignore[arg-type]
    assert lake.read("entries/a.parquet") == b"before"
    assert lake.names("") == ["entries/a.parquet"]


def test_an_object_store_gets_each_file_in_one_piece(books: Reconciled, tmp_path: Path) -> None:
    """pyarrow's file systems have one interface; this one is of another kind than a local one."""
    files = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    (tmp_path / "bucket" / "entries" / "day=2026-03-04").mkdir(parents=True)
    lake = Lake.on(files, "bucket")
    account = books.account("stripe")
    books.record(*both(capture(account, SNOWFLAKE, 5)))
    with books.engine.begin() as tx:
        assert entries.write_next(lake, tx, now=NOON + timedelta(hours=2))
    assert lake.names("entries") == ["entries/day=2026-03-04/hour=12.parquet"]
    assert ids(tmp_path / "bucket") == [(SNOWFLAKE, 5)]


def test_a_query_has_the_day_and_an_empty_lake_has_no_rows(books: Reconciled, tmp_path: Path) -> None:
    assert ids(tmp_path / "nothing") == []
    account = books.account("stripe")
    books.record(*both(capture(account, SNOWFLAKE, 5)))
    books.now = NOON + timedelta(hours=2)
    fill(books)
    found = query(str(tmp_path / "lake"), "SELECT day, sum(amount_minor) AS total FROM entries GROUP BY day")
    assert list(found.columns) == ["day", "total"]
    assert [tuple(map(str, row)) for row in found.rows] == [(str(datetime(2026, 3, 4, tzinfo=UTC).date()), "5")]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM 'https://example.org/a.parquet'",
        "COPY entries TO '/tmp/stolen.parquet'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "DROP VIEW entries",
        "ATTACH '/tmp/other.db'",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_a_query_reads_nothing_but_the_entries(tmp_path: Path, sql: str) -> None:
    with pytest.raises(UsageRefusal):
        list(query(str(tmp_path), sql).rows)
