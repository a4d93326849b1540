"""One tracker with its API for all tests of this folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine

from chassis.postgres.database import prepare
from stack.lifecycle import up
from stack.settings import from_environment
from support.registries import codec_of
from support.tracker_peers import DEADLINE_S, SHORT, TrackerPeers


@pytest.fixture(scope="package")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackerPeers]:
    stack = up(from_environment(home=tmp_path_factory.mktemp("stack"), only=("saga-tracker", "saga-tracker-api")))
    engine = prepare(create_engine(stack.database_url("saga-tracker").replace("postgresql:", "postgresql+psycopg:")))
    try:
        with httpx.Client(timeout=10) as http, codec_of(stack) as codec:
            wire = TrackerPeers(stack=stack, codec=codec, engine=engine, http=http)
            yield wire
            wire.close()
    finally:
        engine.dispose()
        stack.down()


@pytest.fixture
def with_short_deadlines(wire: TrackerPeers, tmp_path: Path) -> Iterator[None]:
    """Run a tracker with short deadlines instead of the stack's own."""
    wire.stack.stop("saga-tracker")
    environment = os.environ | wire.stack.environment("saga-tracker") | SHORT
    with (tmp_path / "tracker.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "saga_tracker.main"], env=environment, stderr=log)
        try:
            wire.records()  # A saga has nine seconds in all, which must not pass while the tracker starts.
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0, (tmp_path / "tracker.log").read_text()
        finally:
            process.kill()
            process.wait(DEADLINE_S)
            wire.stack.start("saga-tracker")
