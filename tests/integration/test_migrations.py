"""What the migrations build is what the tables in code say, for every service."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from chassis.postgres import migrations
from sqlalchemy import MetaData
from support.postgres import scratch_database

from stack import Stack, contract


def metadata_of(package: str) -> MetaData:
    """Return the tables of a service; the name is the service's own choice."""
    tables: Any = importlib.import_module(f"{package}.tables")
    (found,) = {each for each in vars(tables).values() if isinstance(each, MetaData)}
    return found


@pytest.mark.parametrize("package", contract.databases())
def test_migrations_equal_the_tables(infrastructure: Stack, package: str) -> None:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(package, engine)
        with engine.connect() as connection:
            assert migrations.differences(metadata_of(package), connection) == []


@pytest.mark.parametrize("package", contract.databases())
def test_migrating_again_changes_nothing(infrastructure: Stack, package: str) -> None:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(package, engine)
        migrations.upgrade(package, engine)
        with engine.connect() as connection:
            assert migrations.differences(metadata_of(package), connection) == []
