"""Times and days as RFC 3339 writes them, wherever people type them: HTTP, JSON Lines, options."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Final

FORM: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?)?([Zz]|[+-]\d\d:[0-5]\d)?", re.ASCII)
"""A date, a time of day, its seconds and a zone. All but the date may be absent, for a message that completes it."""
DAY_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
EXPECTED_DAY: Final = "Not a day as RFC 3339 writes it, for example 2026-11-21"
EXPECTED: Final = "Not a time as RFC 3339 writes it, for example 2026-11-21T10:00:00Z"


def rfc3339(text: str) -> datetime:
    """Return an aware time. Its seconds may be absent. Raises ValueError with what is wrong, and with a time to write.

    datetime.fromisoformat takes any character for the T, so that a date with a zone is a time of day to it.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise ValueError(EXPECTED)
    day, minutes, seconds, zone = found.groups()
    local = f"{day}T{minutes or '00:00'}{seconds or ':00'}"
    whole = f"{local}{(zone or 'Z').upper()}"
    try:
        at = datetime.fromisoformat(whole)
        at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(EXPECTED) from None
    if minutes is None:
        raise ValueError(f"It has no time of day; write it like {whole}")
    if zone is None:
        raise ValueError(f"It has no zone; write {whole} for UTC, or {local}+02:00")
    return at


def full_date(text: str) -> date:
    """Return a day. Raises ValueError where it is not written as YYYY-MM-DD, or is not in the calendar."""
    if DAY_FORM.fullmatch(text) is None:
        raise ValueError(EXPECTED_DAY)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(EXPECTED_DAY) from None
