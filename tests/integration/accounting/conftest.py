"""One ledger for the tests of this folder; each uses accounts and references of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack import Stack
from support.ledgers import LedgerUnderTest, scratch_ledger


@pytest.fixture(scope="package")
def shared_ledger(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    with scratch_ledger(infrastructure) as ledger:
        yield ledger


@pytest.fixture
def ledger(shared_ledger: LedgerUnderTest) -> Iterator[LedgerUnderTest]:
    """The ledger; after the test every transfer must be balanced, and every balance the sum of its entries."""
    yield shared_ledger
    shared_ledger.check()
