"""The tables that the migration builds are those that the code declares."""

from __future__ import annotations

from sqlalchemy import Engine

from chassis.postgres import migrations
from mobile_money.schema import metadata


def test_the_migration_equals_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        assert migrations.differences(metadata, connection) == []
