"""The demo's returns: what is sent back, and how far each came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from baraza.demo.returns import Returned, ReturnOutcome, follow
from baraza.demo.view import instructive_return
from baraza.storefront.returns import PARCELS, Parcel, body_of
from baraza.system.client import Refused

ORDER = {
    "customer_id": "household-7",
    "state": "CONFIRMED",
    "lines": [
        {"sku": "tea", "quantity": 2, "unit_price_minor": 450},
        {"sku": "milk", "quantity": 1, "unit_price_minor": 90},
    ],
}


class TrackerApi:
    """The tracker's API with these sagas; one that it does not have yet is a 404, any other failure a 503."""

    def __init__(self, sagas: Mapping[str, tuple[str, str | None]], *, is_away: bool = False) -> None:
        self._sagas = sagas
        self._is_away = is_away

    def get(self, path: str) -> Any:
        found = self._sagas.get(path.removeprefix("/v1/sagas/"))
        if self._is_away or found is None:
            raise Refused(503 if self._is_away else 404, {}, "tracker refused: it is not there.")
        return {"saga": {"state": found[0], "reason": found[1]}}

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        raise AssertionError(f"nothing is changed at the tracker: {method} {path} {body} {headers}")


def requested(*return_ids: str) -> list[ReturnOutcome]:
    return [ReturnOutcome(return_id=each, order_id=f"order of {each}", title="a piece") for each in return_ids]


def followed(tracker: TrackerApi, *return_ids: str) -> tuple[Returned, int]:
    """Return what became of these returns, without any wait, and how many were counted as ended."""
    advanced: list[int] = []
    outcomes = follow(tracker, requested(*return_ids), advanced.append, stalled_after_s=-1.0)
    return Returned(outcomes=outcomes), sum(advanced)


def test_a_return_is_of_a_piece_or_of_all() -> None:
    piece = body_of(ORDER, Parcel(title="a piece", postal_code="LOST-PARCEL"))
    assert piece["lines"] == [{"sku": "tea", "quantity": 1}]
    assert piece["collect_from"]["postal_code"] == "LOST-PARCEL"
    whole = body_of(ORDER, Parcel(title="all", is_whole=True))
    assert whole["lines"] == [{"sku": "tea", "quantity": 2}, {"sku": "milk", "quantity": 1}]


def test_the_courier_brings_not_every_parcel() -> None:
    codes = {parcel.postal_code for parcel in PARCELS}
    assert {"LOST-PARCEL", "DAMAGED-PARCEL", "SHORT-PARCEL", "NOT-COLLECTED"} < codes


def test_every_return_is_followed_to_its_end() -> None:
    tracker = TrackerApi({"a": ("CONFIRMED", None), "b": ("CANCELLED_COMPENSATED", "not_collected")})
    returned, ended = followed(tracker, "a", "b")
    assert ended == 2
    assert [each.return_id for each in returned.completed] == ["a"]
    assert [each.return_id for each in returned.failed] == ["b"]
    assert not returned.unfinished
    assert returned.by_summary() == {"a piece · completed": 1, "a piece · failed: not_collected": 1}


@pytest.mark.parametrize("state", ["PENDING", "NEEDS_REVIEW", "INCIDENT", "IN_DOUBT"])
def test_a_return_that_is_stuck_parked_or_frozen_is_named(state: str) -> None:
    returned, _ = followed(TrackerApi({"a": ("CONFIRMED", None), "b": (state, "odd")}), "a", "b", "unknown yet")
    assert [each.return_id for each in returned.unfinished] == ["b", "unknown yet"]
    assert returned.by_summary()[f"a piece · {state}"] >= 1


def test_a_tracker_that_fails_is_no_return_that_waits() -> None:
    with pytest.raises(Refused):
        followed(TrackerApi({}, is_away=True), "a")


def test_a_completed_return_is_shown() -> None:
    failed, completed = requested("a", "b")
    completed = ReturnOutcome(return_id="b", order_id="o", title="a piece", state="CONFIRMED")
    shown = instructive_return(Returned(outcomes=[failed, completed]))
    assert shown is completed
    assert instructive_return(Returned()) is None
