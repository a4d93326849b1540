"""A separate stack: poison leaves dead letters, which no other test's audit should find.

The folder is a package, so that the stack stops after the folder's last test and does not idle beside all others.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack import from_environment, up
from support.shop import Shop

PARTITIONS = 3
TIMEOUT_FACTOR = 0.25


@pytest.fixture(scope="package")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop with every service, for any message and any request."""
    environment = {"saga-tracker": {"BARAZA_TIMEOUT_FACTOR": str(TIMEOUT_FACTOR)}}
    home = tmp_path_factory.getbasetemp() / "besieged"
    stack = up(from_environment(home=home, partitions=PARTITIONS, environment=environment))
    shop = Shop(stack=stack)
    try:
        shop.stock()
        yield shop
    finally:
        shop.http.close()
        stack.down()
