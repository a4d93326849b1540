"""Times as a provider in Nairobi writes them: UTC+3, without a zone, in several formats."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

NAIROBI = timezone(timedelta(hours=3))
"""There is no daylight saving."""
DAY_S = 86_400.0


def local(at: float) -> datetime:
    """Return a Unix time as Nairobi's."""
    return datetime.fromtimestamp(at, NAIROBI)


def compact(at: float) -> str:
    """Return 14 digits, as prompts and C2B have them."""
    return local(at).strftime("%Y%m%d%H%M%S")


def dotted(at: float) -> str:
    """Return dd.mm.yyyy HH:MM:SS, as the result of a payout has it."""
    return local(at).strftime("%d.%m.%Y %H:%M:%S")


def dashed(at: float) -> str:
    """Return yyyy-mm-dd HH:MM:SS, as pull requests and statements have it."""
    return local(at).strftime("%Y-%m-%d %H:%M:%S")


def parsed(text: str, form: str) -> float:
    """Return the Unix time of a text in Nairobi's time. Raises ValueError."""
    return datetime.strptime(text, form).replace(tzinfo=NAIROBI).timestamp()


def day_of(at: float) -> date:
    """Return the day in Nairobi."""
    return local(at).date()


def starts(day: date) -> float:
    """Return the Unix time at which a day begins in Nairobi."""
    return datetime.combine(day, time(), NAIROBI).timestamp()


def ends(day: date) -> float:
    """Return the Unix time at which a day ends in Nairobi: 24:00, which is no part of it."""
    return starts(day) + DAY_S
