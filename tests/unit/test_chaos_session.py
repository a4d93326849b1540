"""What a chaos run starts and injects: only what something is requested of."""

from __future__ import annotations

from typing import Any

import pytest

from baraza.chaos import session
from baraza.chaos.schedule import OF_ORDERS, OF_PAYMENTS, OF_SACCO, Kind
from baraza.chaos.session import met, sagas_of
from stack import selection

EVERYTHING: dict[str, Any] = {"rate": 1.0, "payments_rate": 1.0, "sacco_rate": 1.0}


def test_with_a_rate_of_everything_every_saga_is_started() -> None:
    assert sagas_of(**EVERYTHING) is None
    assert sagas_of(rate=1.0, payments_rate=None, sacco_rate=None) is None
    assert met(Kind, **EVERYTHING) == tuple(Kind)


@pytest.mark.parametrize(
    ("rate", "family", "kinds", "idle"),
    [
        ("rate", session.ORDERS, OF_ORDERS, {"shipping", "inventory", "loyalty", "courier"}),
        ("payments_rate", session.PAYMENTS, OF_PAYMENTS, {"risk"}),
        ("sacco_rate", session.SACCO, OF_SACCO, {"mobile-money", "daraja"}),
    ],
)
def test_what_has_a_rate_of_0_is_not_started_nor_are_its_faults_injected(
    rate: str, family: tuple[str, ...], kinds: tuple[Kind, ...], idle: set[str]
) -> None:
    rates = EVERYTHING | {rate: 0.0}
    started = sagas_of(**rates)
    assert started is not None
    assert set(selection.known()) - set(started) == set(family)
    assert not idle & set(selection.components(started))
    assert idle < set(selection.components(()))
    assert set(Kind) - set(met(Kind, **rates)) == set(kinds)
