"""One console for all tests of its sign-in, without any service; and one with a tracker for the tests of its pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy import create_engine

from chassis.postgres.database import prepare
from stack import contract
from stack.lifecycle import up
from stack.settings import from_environment
from support.browsers import chromium
from support.console_stage import Stage
from support.consoles import ConsoleAddress, RunningConsole, running
from support.registries import codec_of
from support.tracker_peers import TrackerPeers

TRACKER = ("saga-tracker", "saga-tracker-api", contract.CONSOLE)


@pytest.fixture(scope="package")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    with running(tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stack = up(from_environment(home=tmp_path_factory.mktemp("stack"), only=TRACKER))
    engine = prepare(create_engine(stack.database_url("saga-tracker").replace("postgresql:", "postgresql+psycopg:")))
    try:
        with httpx.Client(timeout=60, trust_env=False) as http, codec_of(stack) as codec:
            wire = TrackerPeers(stack=stack, codec=codec, engine=engine, http=http)
            address = ConsoleAddress(
                url=stack.endpoints.url(contract.CONSOLE), issuer=stack.endpoints.url("issuer"), http=http
            )
            yield Stage(wire=wire, console=address)
            wire.close()
    finally:
        engine.dispose()
        stack.down()


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="package")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a picture of each page, for people who change a page."""
    return tmp_path_factory.mktemp("pictures")
