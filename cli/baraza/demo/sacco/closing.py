"""The evening: statements are imported, what people booked by hand is claimed, and the day is signed and closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from baraza.demo.sacco.day import named_in_doubt
from baraza.storefront.sacco.people import CURRENCY, SHORT_CODE, People, follow
from baraza.storefront.sacco.statements import ZONE
from baraza.system.client import Refused, objects
from baraza.terminal import notify

DOUBT_WITHIN_S: Final = 300.0
"""What is in doubt after this long is listed by name."""
LISTED_MAX: Final = 1_000
DECIDED: Final = frozenset({"CLOSED", "OPEN"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A day as it was signed. ``state`` is CLOSED, or OPEN with the reason."""

    day: date
    state: str
    reason: str | None
    rows: int
    matched: int
    listed: Sequence[Mapping[str, Any]]


def wait_for_doubt(people: People) -> Sequence[Mapping[str, Any]]:
    """Wait until everything is proven, for DOUBT_WITHIN_S, and return what is still in doubt."""
    names: list[str] = follow(
        lambda: [str(each["saga_id"]) for each in named_in_doubt(people)],
        lambda found: not found,
        "money in doubt",
        within_s=DOUBT_WITHIN_S,
    )
    return [each for each in named_in_doubt(people) if each["saga_id"] in names]


def book_float(people: People, day: date) -> int:
    """Book the float that was brought or went away, and claim its rows as booked. Return how many there were.

    Only treasury knows what such a row is, so two persons post it and two claim it.
    """
    rows = [each for each in _listed(people, day) if each["account"] == "UTILITY"]
    if not rows:
        return 0
    # What was brought and what went away adds up to more than nothing: treasury always brings more than is lost.
    total_minor = sum(int(each["amount_minor"]) for each in rows)
    entries = {f"sacco:utility:{SHORT_CODE}:{CURRENCY}": total_minor, f"sacco:bank:{CURRENCY}": -total_minor}
    posting = people.post_by_hand(entries, f"Float of {day}, from the bank.")
    for row in rows:
        body = {name: row[name] for name in ("short_code", "receipt", "account", "kind")}
        body |= {"posting_id": posting, "reason": "Float that treasury moved."}
        claim = people.money.call("POST", "/v1/claims/booked", body=body)
        people.money_decider.call("POST", f"/v1/claims/{claim['claim_id']}", body={"decision": "APPROVED"})
    return len(rows)


def close(people: People, day: date) -> Closed:
    """Read the day's report, sign its hash and close the day. Return how it was decided."""
    path = f"/v1/days/{SHORT_CODE}/{day.isoformat()}/report"
    found = people.money.get(path)
    report = found["report"]
    body = {"short_code": SHORT_CODE, "day": day.isoformat(), "report_sha256": found["report_sha256"]}
    try:
        saga_id = people.money.call("POST", "/v1/days", body=body)["saga_id"]
    except Refused as refused:
        notify(f"{refused}")
        decided = _newest(people, day)
    else:
        decided = follow(
            lambda: _of_saga(people, saga_id), lambda run: run["state"] in DECIDED, f"the day {day}"
        )  # fmt: skip
    return Closed(
        day=day,
        state=str(decided["state"]),
        reason=decided["reason"],
        rows=int(report["rows"]),
        matched=int(report["matched"]),
        listed=report["listed_rows"],
    )


def _of_saga(people: People, saga_id: str) -> Mapping[str, Any]:
    return next(each for each in objects(people.money.get("/v1/days"), "rows") if each["saga_id"] == saga_id)


def _newest(people: People, day: date) -> Mapping[str, Any]:
    return next(each for each in objects(people.money.get("/v1/days"), "rows") if each["day"] == day.isoformat())


def _listed(people: People, day: date) -> list[Mapping[str, Any]]:
    """Return the rows of a day that match nothing."""
    found = objects(people.money.get("/v1/statement-rows", {"match": "LISTED", "limit": LISTED_MAX}), "rows")
    return [each for each in found if datetime.fromisoformat(each["completed_at"]).astimezone(ZONE).date() == day]
