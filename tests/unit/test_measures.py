"""How long the result of a gauge's query is used."""

from __future__ import annotations

import pytest

from chassis.telemetry.metrics import QUERY_AGE_MAX_S, QUERY_REST_MAX_S, Measure


@pytest.mark.parametrize(
    ("age_max_s", "took_s", "expected_s"),
    [
        (QUERY_AGE_MAX_S, 0.001, QUERY_AGE_MAX_S),
        (QUERY_AGE_MAX_S, 0.2, 40.0),
        (QUERY_AGE_MAX_S, 3.0, QUERY_REST_MAX_S),
        (600.0, 3.0, 600.0),
    ],
    ids=["a quick one", "one that counts many rows", "one that took long for once", "one that is rare anyway"],
)
def test_a_query_rests_the_longer_the_longer_it_takes(age_max_s: float, took_s: float, expected_s: float) -> None:
    measure = Measure(name="rows", documentation="Rows.", labels=(), query=lambda _: [], age_max_s=age_max_s)
    assert measure.rest_s(took_s) == pytest.approx(expected_s)
