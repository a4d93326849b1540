"""New passwords under load: no process restarts, no order is lost, and the old passwords are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from redis import Redis

from stack import postgres
from stack.contract import TRACKER, package_of
from support.shop import ENDED, Shop
from support.waiting import until

ORDERS = 60
ROTATED = ("checkout", "payment", TRACKER)
"""One that publishes for its API, one with a provider, and the one whose consumer is aiokafka's."""
REFUSED_WITHIN_S = 3.0


def end_connections(shop: Shop) -> None:
    """End every open connection, so that every process must log in again."""
    roles = [package_of(login) for login in ROTATED]
    ends = shop.stack.endpoints
    with closing(postgres.connect(ends.postgres_port, shop.stack.password(postgres.SUPERUSER))) as server:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY(%s)", [roles])
    (before,) = shop.stack.pids("kafka")
    shop.stack.kill("kafka")
    until(lambda: shop.stack.pids("kafka") not in ((), (before,)), "Kafka is started again")


def test_passwords_change_under_load_and_no_order_is_lost(shop: Shop, tmp_path: Path) -> None:
    stack = shop.stack
    old = {login: replace(stack.kafka(login), password_file=tmp_path / login) for login in ROTATED}
    for login in ROTATED:
        (tmp_path / login).write_text(stack.kafka(login).password())
    old_url = stack.database_url("payment")
    pids = {login: stack.pids(login) for login in ROTATED}
    with ThreadPoolExecutor(1) as threads:
        before = shop.place_many(ORDERS)
        during = threads.submit(shop.place_many, ORDERS)
        for login in ROTATED:
            stack.rotate(login)
        end_connections(shop)
        placed = [*before, *during.result()]
    # Kafka was unavailable for as long as a step's timeout, so some orders may have timed out, but none is lost.
    assert {shop.outcome(order.order_id)["saga"]["state"] for order in placed} <= set(ENDED)
    assert {shop.outcome(order.order_id)["saga"]["state"] for order in shop.place_many(ORDERS)} == {"CONFIRMED"}
    assert {login: stack.pids(login) for login in ROTATED} == pids
    for outdated in old.values():
        with pytest.raises(KafkaException):
            AdminClient({**outdated.options(), "log_level": 0}).list_topics(timeout=REFUSED_WITHIN_S)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(old_url)
    with Redis.from_url(stack.endpoints.redis_url, credential_provider=stack.redis("payment")) as client:
        assert client.ping()
