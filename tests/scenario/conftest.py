"""Every service runs as a process; each scenario ends with the audit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.shop import Shop

from stack import Stack


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
    """The shop; when the test is over, the providers are well again and the audit finds nothing."""
    yield open_shop
    open_shop.clear_faults()
    open_shop.check_audit()
