"""The tables that the migration builds are those that the code declares, and every measure reads them."""

from __future__ import annotations

from sqlalchemy import Engine

from chassis.postgres import migrations
from mobile_money.measures import MEASURES
from mobile_money.schema import metadata


def test_every_measure_can_be_read(engine: Engine) -> None:
    with engine.connect() as tx:
        for measure in MEASURES:
            for row in measure.query(tx):
                assert len(tuple(row)) == len(measure.labels) + 1, measure.name


def test_the_migration_equals_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        assert migrations.differences(metadata, connection) == []
