"""A PostgreSQL alone, and reconciliation on a database of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import Stack, from_environment, up
from support.reconciling import Reconciled, reconciled


@pytest.fixture(scope="package")
def postgres_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = up(from_environment({}, home=tmp_path_factory.getbasetemp() / "reconciliation", only=("postgres",)))
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture
def books(postgres_alone: Stack, tmp_path: Path) -> Iterator[Reconciled]:
    with reconciled(postgres_alone, tmp_path) as found:
        yield found
