"""Days that banks do not settle are passed over, by the currency of the payout."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from reconciliation.model import calendar
from reconciliation.model.kinds import RunKind

CALENDAR = calendar.load()


@pytest.mark.parametrize(
    ("day", "currency", "expected"),
    [
        (date(2026, 3, 4), "USD", True),
        (date(2026, 3, 7), "USD", False),
        (date(2026, 7, 3), "USD", False),  # Independence Day, observed on Friday
        (date(2026, 12, 25), "EUR", False),
        (date(2026, 4, 3), "EUR", False),  # Good Friday of TARGET
        (date(2026, 3, 6), "BHD", False),  # Friday
        (date(2026, 3, 8), "BHD", True),  # Sunday
        (date(2026, 12, 25), "XOF", True),  # not listed: weekends only
    ],
)
def test_a_business_day_is_the_currencys(day: date, currency: str, expected: bool) -> None:
    assert CALENDAR.is_business_day(day, currency) is expected


def test_three_business_days_behind_a_wednesday_before_easter_pass_over_the_holidays() -> None:
    assert CALENDAR.after(date(2026, 4, 1), 3, "EUR") == date(2026, 4, 8)
    assert CALENDAR.missing_at(date(2026, 4, 1), "stripe", "EUR") == datetime(2026, 4, 9, 6, tzinfo=UTC)


def test_a_day_is_reconciled_again_on_business_days_only() -> None:
    found = dict(CALENDAR.rechecks(date(2026, 12, 18), "EUR"))
    assert list(found) == [RunKind.T7, RunKind.T14, RunKind.T30]
    assert found[RunKind.T7] == datetime(2026, 12, 29, 6, tzinfo=UTC), "the 25th is a holiday, then a weekend"
