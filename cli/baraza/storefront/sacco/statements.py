"""The provider's statements, fetched and imported as treasury does."""

from __future__ import annotations

from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from baraza.storefront.sacco.people import SHORT_CODE, People

ZONE: Final = ZoneInfo("Africa/Nairobi")
ACCOUNTS: Final = ("utility", "working", "charges")


def days_since(began_at: datetime, now: datetime) -> list[date]:
    """Return the days in Nairobi that a run touched: two, where it ran over midnight."""
    first, last = began_at.astimezone(ZONE).date(), now.astimezone(ZONE).date()
    return [first] if first == last else [first, last]


def import_statements(people: People, day: date) -> int:
    """Import the provider's statement of each account for a day, and return how many rows were new."""
    new = 0
    for account in ACCOUNTS:
        answer = people.provider.send("GET", f"/statements/{SHORT_CODE}/{account}", params={"day": day.isoformat()})
        if not answer.is_success:
            people.provider.check(answer)
        params = {"short_code": SHORT_CODE, "account": account.upper(), "day": day.isoformat(),
                  "name": f"{account}-{day}.csv"}  # fmt: skip
        new += int(people.money.upload("/v1/statements", answer.content, params)["new_rows"])
    return new
