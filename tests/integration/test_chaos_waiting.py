"""The sagas that wait at the end of a chaos run, from the tables of the tracker and of shipping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from baraza.audit.sources import TRACKER, Row
from baraza.chaos.waiting import SERVICES, waiting_of
from chassis.postgres import migrations
from stack import Stack
from stack.contract import package_of
from support.postgres import scratch_database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAGA = """
    INSERT INTO sagas (saga_id, saga_type, saga_version, state, phase, step, partition, progress, version, started_at,
                       updated_at, awaits_since)
    VALUES (:saga_id, 'return_order', 1, :state, 'RUNNING', 'collect_parcel', 0, '{}', 1, :now, :now, :since)
"""
STEP = """
    INSERT INTO awaited_steps (saga_id, step, topic, partition, headers, payload, query_at, queries, queried_since,
                               redrive)
    VALUES (:saga_id, :step, 'checkout.events', 0, '[]', '', :query_at, 1, :query_at, 0)
"""


class Databases:
    """The databases of the tracker and of the services with awaited steps."""

    def __init__(self, engines: dict[str, Engine]) -> None:
        self._engines = engines

    def query(self, query: str, *_arguments: object, service: str = TRACKER) -> list[Row]:
        with self._engines[service].begin() as tx:
            return [tuple(row) for row in tx.execute(text(query))]

    def add(self, service: str, statement: str, **values: object) -> None:
        with self._engines[service].begin() as tx:
            tx.execute(text(statement), values)


@pytest.fixture
def databases(infrastructure: Stack) -> Iterator[Databases]:
    with ExitStack() as opened:
        engines = {each: opened.enter_context(scratch_database(infrastructure)) for each in (TRACKER, *SERVICES)}
        for service, engine in engines.items():
            migrations.upgrade(package_of(service), engine)
        yield Databases(engines)


def test_what_waits_is_read_with_its_earliest_query(databases: Databases) -> None:
    assert SERVICES == ["mobile-money", "payment", "shipping"]
    for saga_id, state, since in (
        ("younger", "IN_DOUBT", NOW),
        ("older", "PENDING", NOW - timedelta(hours=1)),
        ("stuck", "PENDING", NOW + timedelta(hours=1)),
        ("parked", "NEEDS_REVIEW", NOW),
        ("ended", "CONFIRMED", None),
    ):
        databases.add(TRACKER, SAGA, saga_id=saga_id, state=state, since=since, now=NOW)
    for saga_id, step, minutes in (
        ("older", "collect_parcel", 5),
        ("younger", "collect_parcel", 9),
        ("younger", "collect_parcel:undo", 7),
        ("parked", "collect_parcel", 1),
    ):
        databases.add("shipping", STEP, saga_id=saga_id, step=step, query_at=NOW + timedelta(minutes=minutes))

    found = waiting_of(databases)

    assert [(each.saga_id, each.step, each.query_at) for each in found] == [
        ("older", "collect_parcel", NOW + timedelta(minutes=5)),
        ("younger", "collect_parcel", NOW + timedelta(minutes=7)),
        ("stuck", "collect_parcel", None),
    ]
