"""How a process of a service starts and ends: it waits for dependencies, reports its health, and stops in time."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import urllib3
from sqlalchemy import Engine, text

from chassis.postgres import migrations
from chassis.process.service import DependencyMissing, wait_for
from chassis.wire.envelope import new_id
from messages.loyalty import LoyaltyPointsBurned
from stack import Stack
from support.builders import a
from support.postgres import scratch_database
from support.registries import codec_of
from support.shipping_process import SERVICE, shipping
from support.topics import OutgoingMessage, publish
from support.waiting import until

STOPS_WITHIN_S = 10.0
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'shipping' AND datname = current_database()"


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(SERVICE, engine)
        yield engine


@pytest.fixture
def silence() -> Iterator[int]:
    """A courier that takes every request and never answers; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def status(url: str) -> int:
    try:
        return urllib3.request("GET", url, timeout=2.0, retries=False).status
    except urllib3.exceptions.HTTPError:
        return 0


def nothing(_infrastructure: Stack, _engine: Engine) -> list[int]:
    return []


def kafka(infrastructure: Stack, _engine: Engine) -> list[int]:
    return list(infrastructure.pids("kafka"))


def database(_infrastructure: Stack, engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return [row.pid for row in connection.execute(text(BACKENDS))]


@pytest.mark.parametrize("gone", [nothing, kafka, database])
def test_a_process_stops_in_time_in_the_middle_of_a_call_whatever_is_gone(
    infrastructure: Stack, engine: Engine, silence: int, tmp_path: Path, gone: Callable[[Stack, Engine], Sequence[int]]
) -> None:
    saga_id = new_id()
    with codec_of(infrastructure) as codec:
        value = codec.encode("loyalty.events", a(LoyaltyPointsBurned, saga_id=saga_id))
    with shipping(infrastructure, engine, silence, tmp_path / "log") as (process, url):
        until(lambda: status(f"{url}/readyz"), "it is ready", holds=lambda found: found == 200)
        publish(
            infrastructure.kafka(),
            [OutgoingMessage(topic="loyalty.events", partition=0, key=saga_id.encode(), value=value)],
        )
        until(lambda: state_of(engine, saga_id), "its call is under way", holds=lambda found: found == "STARTED")
        stopped = set[int]()

        def stop_what_is_there() -> None:
            for pid in set(gone(infrastructure, engine)) - stopped:
                os.kill(pid, signal.SIGSTOP)
                stopped.add(pid)

        try:
            stop_what_is_there()
            if gone is database:
                # It opens a further connection where each that it has is in use.
                until(
                    lambda: (stop_what_is_there(), status(f"{url}/readyz"))[1],
                    "it is not ready",
                    holds=lambda found: found != 200,
                )
                until(lambda: status(f"{url}/livez"), "it is alive", holds=lambda found: found == 200)
            began = time.monotonic()
            process.terminate()
            code = process.wait(STOPS_WITHIN_S + 5)
            took_s = time.monotonic() - began
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    assert took_s < STOPS_WITHIN_S, (tmp_path / "log").read_text()[-2_000:]
    assert code == 0 or stopped, (tmp_path / "log").read_text()[-2_000:]


def state_of(engine: Engine, saga_id: str) -> str | None:
    with engine.connect() as connection:
        return connection.execute(text("SELECT state FROM effects WHERE saga_id = :id"), {"id": saga_id}).scalar()


def test_start_up_gives_up_with_the_name_of_the_part_that_is_missing() -> None:
    tried: list[str] = []

    def refuse() -> None:
        tried.append("again")
        raise ConnectionError("refused")

    with pytest.raises(DependencyMissing, match="The schema registry was not ready within 1 s: refused"):
        wait_for({"PostgreSQL": lambda: tried.append("there"), "The schema registry": refuse}, within_s=1.0)
    assert tried[0] == "there"
    assert len(tried) > 2
