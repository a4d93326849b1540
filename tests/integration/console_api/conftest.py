"""PostgreSQL alone, and the tracker's API over real HTTP on its database. Messages are recorded without Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from chassis.postgres import migrations
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest import decoding
from saga_tracker.ingest.sent_messages import sent_topics
from saga_tracker.store import consumed_offsets
from stack import Stack, from_environment, up
from support.console_api import PARTITIONS, Console, served
from support.postgres import scratch_database


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = up(from_environment(home=tmp_path_factory.mktemp("postgres"), only=("postgres",)))
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="package")
def migrated(postgres: Stack) -> Iterator[Engine]:
    """The tracker's database, which has recorded nothing. Each test has a copy."""
    with scratch_database(postgres) as engine:
        migrations.upgrade("saga_tracker", engine)
        topics = {*decoding.topics(DEFINITIONS), *sent_topics(DEFINITIONS)}
        with engine.begin() as tx:
            consumed_offsets.begin(tx, {(topic, number): 0 for topic in topics for number in PARTITIONS})
        engine.dispose()
        yield engine


@pytest.fixture
def engine(postgres: Stack, migrated: Engine) -> Iterator[Engine]:
    with scratch_database(postgres, template=migrated) as engine:
        yield engine


@pytest.fixture
def empty_too(postgres: Stack, migrated: Engine) -> Iterator[Engine]:
    """Another database of the tracker, which a rebuild fills."""
    with scratch_database(postgres, template=migrated) as engine:
        yield engine


@pytest.fixture
def empty(postgres: Stack) -> Iterator[Engine]:
    """A database without tables."""
    with scratch_database(postgres) as engine:
        yield engine


@pytest.fixture
def console(engine: Engine) -> Iterator[Console]:
    with served(engine) as console:
        yield console
