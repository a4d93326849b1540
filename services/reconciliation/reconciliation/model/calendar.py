"""When a gateway should have settled a day's payments, and when a day is reconciled again. The days are data.

``calendar.json`` has the weekends and whose holidays count, by the currency of the payout. The holidays themselves are
the library's. A currency that is not listed has weekends only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib import resources
from typing import Final

import holidays
from pydantic import BaseModel, ConfigDict, Field

from reconciliation.model.kinds import RECHECKS, RunKind

DAY: Final = timedelta(days=1)
READY_AT: Final = time(6, tzinfo=UTC)
"""Gateways deliver a day's report in the night after it."""


class Expectation(BaseModel):
    """How many business days a gateway may take: until a line is late, and until it is missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    missing_after_days: int = Field(gt=0)
    late_after_days: int = Field(gt=0)


class Market(BaseModel):
    """Whose holidays count for a currency. Days of the week are 0 for Monday to 6 for Sunday."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    country: str | None = None
    subdivision: str | None = None
    market: str | None = None
    weekend: frozenset[int] | None = None


class Calendar(BaseModel):
    """The calendar as it is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gateways: dict[str, Expectation]
    grace_minutes: int = Field(gt=0)
    rechecks_days: tuple[int, ...]
    currencies: dict[str, Market]
    weekend: frozenset[int]

    @property
    def grace(self) -> timedelta:
        """How long one side may know of something before the other: events and reports are not simultaneous."""
        return timedelta(minutes=self.grace_minutes)

    def is_business_day(self, day: date, currency: str) -> bool:
        """Return whether banks settle this currency on a day."""
        market = self.currencies.get(currency, Market())
        weekend = self.weekend if market.weekend is None else market.weekend
        return day.weekday() not in weekend and day not in _holidays(market, day.year)

    def after(self, day: date, business_days: int, currency: str) -> date:
        """Return the n-th business day after a day."""
        while business_days > 0:
            day += DAY
            business_days -= self.is_business_day(day, currency)
        return day

    def missing_at(self, day: date, gateway: str, currency: str) -> datetime:
        """Return from when on a payment of a day is missing in the feed."""
        return self._ready(self.after(day, self.gateways[gateway].missing_after_days, currency))

    def late_at(self, day: date, gateway: str, currency: str) -> datetime:
        """Return from when on a line about a payment of a day is late."""
        return self._ready(self.after(day, self.gateways[gateway].late_after_days, currency))

    def rechecks(self, day: date, currency: str) -> Iterator[tuple[RunKind, datetime]]:
        """Yield when a day is reconciled again: days later, on the next business day."""
        for days in self.rechecks_days:
            due = day + days * DAY
            if not self.is_business_day(due, currency):
                due = self.after(due, 1, currency)
            yield RECHECKS[days], self._ready(due)

    @staticmethod
    def _ready(day: date) -> datetime:
        return datetime.combine(day + DAY, READY_AT)


@cache
def _holidays(market: Market, year: int) -> frozenset[date]:
    if market.market is not None:
        return frozenset(holidays.financial_holidays(market.market, years=year))
    if market.country is not None:
        return frozenset(holidays.country_holidays(market.country, subdiv=market.subdivision, years=year))
    return frozenset()


@cache
def load() -> Calendar:
    """Return the calendar of this release."""
    file = resources.files("reconciliation.model") / "calendar.json"
    return Calendar.model_validate(json.loads(file.read_text()))
