"""Days of a chart: each begins and ends at midnight of its zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def end_of(day: date, zone: str) -> datetime:
    """Return the first instant after a day, as an aware UTC time."""
    return datetime.combine(day + timedelta(days=1), time(), ZoneInfo(zone)).astimezone(UTC)


def day_of(at: datetime, zone: str) -> date:
    """Return the day that an instant belongs to."""
    return at.astimezone(ZoneInfo(zone)).date()
