"""One database of risk for the tests of this folder; each uses payers and merchants of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack import Stack
from support.validating import RiskUnderTest, risk_database


@pytest.fixture(scope="package")
def shared_risk(infrastructure: Stack) -> Iterator[RiskUnderTest]:
    with risk_database(infrastructure) as risk:
        yield risk


@pytest.fixture
def risk(shared_risk: RiskUnderTest) -> Iterator[RiskUnderTest]:
    """Risk; after the test its counters must be what the validations sum up to."""
    yield shared_risk
    shared_risk.check()
