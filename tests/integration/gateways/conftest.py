"""PostgreSQL alone, with payment's tables: gateways are stubs over real HTTP here, and nothing needs Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from chassis.postgres import migrations
from stack import Stack, from_environment, up
from support.postgres import scratch_database


@pytest.fixture(scope="session")
def postgres_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of PostgreSQL alone."""
    stack = up(from_environment(home=tmp_path_factory.getbasetemp() / "postgres alone", only=("postgres",)))
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def engine(postgres_alone: Stack) -> Iterator[Engine]:
    """Payment's database."""
    with scratch_database(postgres_alone) as engine:
        migrations.upgrade("payment", engine)
        yield engine
