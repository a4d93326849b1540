"""The dividend run: profit is set aside, lines are computed and approved by two persons, posted, and paid in waves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from baraza.storefront.sacco.people import CURRENCY, People, follow

DIVIDEND_PPM, REBATE_PPM = 125_000, 90_000
PAID, RETURNED = "PAID", "RETURNED"
OVER: Final = frozenset({"CLOSED", "REFUSED", "FAILED"})
OPEN_WITHIN_S: Final = 600.0
"""A run that is not closed by then is shown as it stands: what is in doubt keeps it open, as it must."""


def begin(people: People, name: str) -> Mapping[str, Any]:
    """Set the profit aside by hand, compute the run, and approve it on the hash of its lines. Return it."""
    body = {
        "run_id": name,
        "year": datetime.now(UTC).year,
        "dividend_ppm": DIVIDEND_PPM,
        "rebate_ppm": REBATE_PPM,
        "regulator_reference": "R-7",
        "meeting_reference": "AGM-3",
        "reason": "Agreed by the meeting.",
    }
    run = people.members.call("POST", "/v1/dividend-runs", body=body)
    gross_minor = int(run["gross_minor"])
    entries = {f"sacco:bank:{CURRENCY}": gross_minor, f"sacco:appropriation:{CURRENCY}": -gross_minor}
    people.post_by_hand(entries, "The profit that the meeting distributes.")
    approval = {"lines_sha256": run["lines_sha256"], "reason": "The lines are those of the meeting."}
    found: Mapping[str, Any] = people.decider.call("POST", f"/v1/dividend-runs/{name}/approval", body=approval)
    return found


def finish(people: People, name: str) -> Mapping[str, Any]:
    """Follow the run until it is closed, or for OPEN_WITHIN_S. Raises Stalled where nothing changes any more."""

    def look() -> Mapping[str, Any]:
        found: Mapping[str, Any] = people.members.get(f"/v1/dividend-runs/{name}")
        return found

    run: Mapping[str, Any] = follow(look, lambda found: found["state"] in OVER, f"the dividend run {name}",
                                    within_s=OPEN_WITHIN_S)  # fmt: skip
    return run


def lines_in(run: Mapping[str, Any], state: str) -> int:
    """Return how many lines of a run are in this state."""
    return sum(int(each["line_count"]) for each in run["sums"] if each["state"] == state)
