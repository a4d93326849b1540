"""PostgreSQL alone, with mobile-money's tables: providers are stubs over real HTTP here, and nothing needs Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from chassis.postgres import migrations
from stack import from_environment, up
from support.gateway_stub import GatewayStub, serving
from support.mobile_money import DarajaBooks, Sending, short_code_of
from support.postgres import scratch_database


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The database of mobile-money."""
    stack = up(from_environment(home=tmp_path_factory.getbasetemp() / "money alone", only=("postgres",)))
    try:
        with scratch_database(stack) as engine:
            migrations.upgrade("mobile_money", engine)
            yield engine
    finally:
        stack.down()


@pytest.fixture
def books() -> DarajaBooks:
    return DarajaBooks()


@pytest.fixture
def stub(books: DarajaBooks) -> Iterator[GatewayStub]:
    with serving(GatewayStub(books.answer)) as stub:
        yield stub


@pytest.fixture
def sending(engine: Engine, stub: GatewayStub, tmp_path: Path) -> Sending:
    """Mobile money with one short code at the stub, for one saga."""
    return Sending(engine=engine, code=short_code_of(stub.url, tmp_path))
