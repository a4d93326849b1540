"""What the migrations build is what the tables in code say, for every service."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from sqlalchemy import MetaData, text

from bench_providers import SUBSTITUTES, VERSION_TABLE
from chassis.postgres import migrations
from stack import Stack, contract
from support.postgres import scratch_database

MODULES = {"mobile_money": "mobile_money.schema", "saga_tracker": "saga_tracker.store.schema"}
"""Where a package has its tables, if not in ``tables``."""
IN_PROCESS = {
    "payment": "INSERT INTO gateway_records (id, reference, state, amount_minor) VALUES ('1', '1', 'open', 1)",
    "shipping": "INSERT INTO courier_records (id, reference, state) VALUES ('1', '1', 'live')",
}
"""A record of a provider inside of the process, by the service whose database holds it."""
BEFORE_THE_MOVE = "0003"
"""The last revision with the tables of these providers."""


def metadata_of(package: str) -> MetaData:
    """Return the tables of a package; the name is the package's own choice."""
    tables: Any = importlib.import_module(MODULES.get(package, f"{package}.tables"))
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


@pytest.mark.parametrize("package", SUBSTITUTES.values())
def test_migrations_of_the_benchmark_equal_its_tables(infrastructure: Stack, package: str) -> None:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(package, engine)
        with engine.connect() as connection:
            assert migrations.differences(metadata_of(package), connection, VERSION_TABLE) == []


@pytest.mark.parametrize(("service", "record"), IN_PROCESS.items())
def test_the_benchmark_keeps_its_records_whenever_its_service_migrates(
    infrastructure: Stack, service: str, record: str
) -> None:
    with scratch_database(infrastructure) as engine:
        for package in (service, SUBSTITUTES[service], service, SUBSTITUTES[service]):
            migrations.upgrade(package, engine)
        with engine.begin() as tx:
            assert tx.execute(text(record)).rowcount == 1


@pytest.mark.parametrize(("service", "record"), IN_PROCESS.items())
def test_the_records_of_an_earlier_benchmark_stay(infrastructure: Stack, service: str, record: str) -> None:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(service, engine, BEFORE_THE_MOVE)
        with engine.begin() as tx:
            tx.execute(text(record))
        for package in (service, SUBSTITUTES[service]):
            migrations.upgrade(package, engine)
        (table,) = (each for each in metadata_of(SUBSTITUTES[service]).sorted_tables if f"INTO {each.name} " in record)
        with engine.connect() as connection:
            assert len(connection.execute(table.select()).all()) == 1
