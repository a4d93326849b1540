"""The real components that tests run against, started for the first test that needs them, stopped after the last.

``infrastructure`` is PostgreSQL, Redis, Kafka and the registry. ``system`` is a separate stack with every service and
the simulators, whose topics only scenarios write to; they use it through ``shop``. A component that does not become
ready fails the tests that need it; nothing is skipped.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from simulators.testing import SimulatorProcess, running
from stack import Stack, StackSettings, from_environment, up
from stack.services import EVERY
from support.collector import Collector, collecting
from support.command_line import CommandLine, serving
from support.shop import Shop

INFRASTRUCTURE = ("postgres", "redis", "kafka", "registry")
PARTITIONS = 3
"""Fewer than in production, so that a few sagas already share partitions."""
TIMEOUT_FACTOR = 0.25
"""A saga's timeouts in tests are 4 to 8 s, which still leaves time to settle a call of 4 s."""
SEED_MAX = 2**32
TESTS = Path(__file__).parent

settings.register_profile(
    "baraza", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("baraza")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of all properties here, so that a failing run can be repeated; end gracefully on a signal.

    A shell that runs the tests in the background ignores signals, which every process under test would inherit.
    """
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(random.randrange(SEED_MAX))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


FOLDERS = ("unit", "contract", "proof", "bench", "integration", "fuzz", "fault", "deploy", "scenario")
"""The order of the tests: the fastest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the modules that use the system last, so that it does not idle beside tests with a stack of their own."""
    last = {item.path for item in items if "system" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (item.path in last, FOLDERS.index(item.path.relative_to(TESTS).parts[0])))


def pytest_report_header(config: pytest.Config) -> str:
    """Return the option that repeats this run's properties."""
    return f"properties: repeat with --hypothesis-seed={config.getoption('hypothesis_seed')}"


def _settings(
    factory: pytest.TempPathFactory, name: str, only: tuple[str, ...] | None, *, collector: str = ""
) -> StackSettings:
    home = factory.getbasetemp() / name
    environment = {
        "saga-tracker": {"BARAZA_TIMEOUT_FACTOR": str(TIMEOUT_FACTOR)},
        EVERY: {"BARAZA_OTLP_URL": collector},
    }
    return from_environment(home=home, only=only, partitions=PARTITIONS, environment=environment)


@pytest.fixture(scope="session")
def command_line() -> Iterator[CommandLine]:
    """The command line, loaded once for all of its cases."""
    with serving() as command_line:
        yield command_line


@pytest.fixture(scope="session")
def infrastructure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL, Redis, Kafka and the schema registry."""
    stack = up(_settings(tmp_path_factory, "infrastructure", INFRASTRUCTURE))
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """The collector of the system's spans."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stack]:
    """Every service and simulator, with the deadlines of sagas shortened; its home has an accent and a percent sign."""
    stack = up(_settings(tmp_path_factory, "système 100%", None, collector=collector.url))
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="session")
def open_shop(system: Stack) -> Iterator[Shop]:
    shop = Shop(stack=system)
    try:
        shop.stock()
        yield shop
    finally:
        shop.http.close()


@pytest.fixture
def shop(open_shop: Shop) -> Iterator[Shop]:
    """The shop; after the test the providers' faults are cleared and the audit must be green."""
    yield open_shop
    open_shop.clear_faults()
    open_shop.check_audit()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """The simulated gateway alone, with its own records."""
    with _simulator("gateway", tmp_path_factory) as process:
        yield process


@pytest.fixture(scope="module")
def courier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """The simulated courier alone, with its own records."""
    with _simulator("courier", tmp_path_factory) as process:
        yield process


def _simulator(name: str, factory: pytest.TempPathFactory) -> AbstractContextManager[SimulatorProcess]:
    return running(name, {"BARAZA_SIMULATOR_RECORDS": str(factory.mktemp(name) / "records.db")})
