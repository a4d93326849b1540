"""The lists of a statement are made of the table's declaration."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sqlalchemy import ARRAY, BigInteger, Column, DateTime, LargeBinary, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from chassis.postgres.columns import SQLALCHEMY, Columns, UnknownColumn

POSITIONS = Table(
    "positions",
    MetaData(),
    Column("topic", Text, primary_key=True),
    Column("offset", BigInteger, nullable=False),
    Column("known", JSONB, nullable=False),
    Column("skus", ARRAY(Text), nullable=False),
    Column("payload", LargeBinary),
    Column("moved_at", DateTime(timezone=True), nullable=False),
)
OTHERS = Table("others", MetaData(), Column("attempt", SmallInteger, primary_key=True))
COLUMNS = Columns.of(POSITIONS)
SOME = COLUMNS.only("known", "topic", "offset")


@dataclass(frozen=True, slots=True)
class Message:
    topic: str


@dataclass(frozen=True, slots=True)
class Position:
    message: Message
    offset: int
    known: tuple[int, ...] = ()


def test_names_stand_in_the_order_of_the_declaration_and_in_quotes_where_postgresql_reserves_them() -> None:
    assert SOME.names == 'topic, "offset", known'
    assert SOME.names_in("positions") == 'positions.topic, positions."offset", positions.known'
    assert list(COLUMNS.without("known", "skus", "payload")) == ["topic", "offset", "moved_at"]


def test_each_column_is_sent_as_an_array_of_its_type() -> None:
    assert COLUMNS.without("known", "skus").rows == (
        "unnest(CAST(%(topic)s AS text[]), CAST(%(offset)s AS bigint[]), CAST(%(payload)s AS bytea[]),"
        ' CAST(%(moved_at)s AS timestamptz[])) AS row (topic, "offset", payload, moved_at)'
    )


def test_documents_and_arrays_are_sent_as_text_and_stored_as_what_they_are() -> None:
    columns = COLUMNS.only("known", "skus")
    assert columns.rows == "unnest(CAST(%(known)s AS text[]), CAST(%(skus)s AS text[])) AS row (known, skus)"
    assert columns.values == "CAST(known AS jsonb), CAST(skus AS text[])"
    assert columns.assignments == "known = CAST(row.known AS jsonb), skus = CAST(row.skus AS text[])"


def test_rows_can_be_counted_to_keep_their_order() -> None:
    assert COLUMNS.only("topic").ordered_rows == (
        "unnest(CAST(%(topic)s AS text[])) WITH ORDINALITY AS row (topic, ordinal)"
    )


def test_an_update_sets_every_column_but_the_primary_key() -> None:
    assert SOME.assignments == '"offset" = row."offset", known = CAST(row.known AS jsonb)'
    assert SOME.excluded_assignments == '"offset" = excluded."offset", known = excluded.known'


def test_a_statement_of_sqlalchemys_has_parameters_of_its_own_form() -> None:
    columns = Columns.of(POSITIONS, parameter=SQLALCHEMY).only("topic", "offset")
    assert columns.rows == 'unnest(CAST(:topic AS text[]), CAST(:offset AS bigint[])) AS row (topic, "offset")'


def test_rows_of_two_tables_can_come_in_one_batch() -> None:
    assert (COLUMNS.only("topic") + Columns.of(OTHERS)).rows == (
        "unnest(CAST(%(topic)s AS text[]), CAST(%(attempt)s AS smallint[])) AS row (topic, attempt)"
    )


def test_values_come_from_attributes_of_attributes_and_from_functions() -> None:
    columns = Columns.of(
        POSITIONS,
        without=["skus", "payload", "moved_at"],
        sources={"topic": "message.topic", "known": lambda position: str(list(position.known))},
    )
    positions = [Position(Message("a"), 1, (2, 3)), Position(Message("b"), 4)]
    assert columns.parameters(positions) == {"topic": ["a", "b"], "offset": [1, 4], "known": ["[2, 3]", "[]"]}
    assert columns.parameters([]) == {"topic": [], "offset": [], "known": []}


@pytest.mark.parametrize("select", [COLUMNS.only, COLUMNS.without])
def test_a_column_that_the_table_lacks_is_refused_with_those_that_it_has(select: object) -> None:
    assert callable(select)
    with pytest.raises(UnknownColumn, match="No column 'place'; there are: topic, offset, known"):
        select("topic", "place")
    with pytest.raises(UnknownColumn, match="No column 'place'"):
        Columns.of(POSITIONS, sources={"place": "index"})
