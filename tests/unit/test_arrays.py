"""A list is written in one pass, and PostgreSQL receives what psycopg would have sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.array import ListBinaryDumper

from chassis.postgres.arrays import KINDS, ArrayDumper

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))  # noqa: DTZ001
ELEMENTS = {
    "text": TEXT,
    "bytea": st.binary(),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "timestamptz": TIMES,
}


def written(value: list[Any]) -> tuple[int, bytes]:
    """Return the type of the array and its bytes."""
    dumper = ArrayDumper(list, None).upgrade(value, PyFormat.AUTO)
    return dumper.oid, bytes(dumper.dump(value) or b"")


@given(st.sampled_from(list(ELEMENTS)).flatmap(lambda kind: st.lists(st.none() | ELEMENTS[kind], min_size=1)))
def test_a_list_reads_back_as_it_was_written(value: list[Any]) -> None:
    oid, data = written(value)
    read = Transformer().get_loader(oid, psycopg.pq.Format.BINARY).load(data) if data else None
    assert read == value or all(each is None for each in value)


def test_a_list_of_any_other_type_is_left_to_psycopg() -> None:
    dumper = ArrayDumper(list, None).upgrade([1.5, 2.5], PyFormat.AUTO)
    assert isinstance(dumper, ListBinaryDumper)
    assert float not in KINDS
