"""When a delivery is attempted again, and what an attempt means for its endpoint."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Final

DELAYS: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""After the first attempt, which is made at once: the schedule of Standard Webhooks, about three days."""
ATTEMPTS_MAX: Final = len(DELAYS) + 1
JITTER_MAX: Final = 0.2
"""A delay is longer by up to this share: what failed together does not come back together."""
RETRY_AFTER_MAX: Final = timedelta(hours=24)
"""As long as the longest delay; an endpoint's wrong header must not postpone a delivery for years."""
SLOW_DOWN: Final = timedelta(seconds=30)
"""How long an endpoint that is overloaded is left alone, where it does not say for how long itself."""
OVERLOADED: Final = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
DISABLED_AFTER: Final = timedelta(days=5)
"""Of nothing but failures."""


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "SUCCEEDED"
    REFUSED = "REFUSED"
    TIMED_OUT = "TIMED_OUT"
    NOT_CONNECTED = "NOT_CONNECTED"
    TLS_FAILED = "TLS_FAILED"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    ADDRESS_FORBIDDEN = "ADDRESS_FORBIDDEN"
    BROKEN_ANSWER = "BROKEN_ANSWER"


class Disabled(StrEnum):
    """Why an endpoint gets nothing any more."""

    MERCHANT = "MERCHANT"
    OPERATOR = "OPERATOR"
    GONE = "GONE"
    FAILING = "FAILING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one call. ``status`` is None where there was none; ``retry_after`` is the header's text."""

    outcome: Outcome
    status: int | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from an attempt. ``due_at`` is None where there is no further one.

    ``slow_until``: until then nothing is sent to the endpoint. ``disables``: it gets nothing any more.
    """

    is_delivered: bool
    due_at: datetime | None = None
    slow_until: datetime | None = None
    disables: Disabled | None = None


def outcome_of(status: int) -> Outcome:
    """Return what a status means: 2xx is success, everything else a failure, a redirect too."""
    return Outcome.SUCCEEDED if 200 <= status < 300 else Outcome.REFUSED


def judge(
    answer: Answer, *, number: int, failing_since: datetime | None, now: datetime, chance: random.Random
) -> Verdict:
    """Return what follows from a delivery's attempt with this number, from 1.

    ``failing_since`` is when the endpoint's first failure since its last success was; None where it has none.
    """
    if answer.outcome is Outcome.SUCCEEDED:
        return Verdict(is_delivered=True)
    if answer.status == HTTPStatus.GONE:
        return Verdict(is_delivered=False, disables=Disabled.GONE)
    if failing_since is not None and now - failing_since >= DISABLED_AFTER:
        return Verdict(is_delivered=False, disables=Disabled.FAILING)
    wanted = retry_after(answer.retry_after, now)
    due_at = next_due(number, now=now, wanted=wanted, chance=chance)
    is_overloaded = answer.status in OVERLOADED
    slow_until = now + (SLOW_DOWN if wanted is None else wanted) if is_overloaded else None
    return Verdict(is_delivered=False, due_at=due_at, slow_until=slow_until)


def next_due(number: int, *, now: datetime, wanted: timedelta | None, chance: random.Random) -> datetime | None:
    """Return when the attempt after the one with this number is due; None after the last one."""
    if number >= ATTEMPTS_MAX:
        return None
    delay = DELAYS[number - 1] * (1 + JITTER_MAX * chance.random())
    return now + (delay if wanted is None else max(delay, wanted))


def retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Return what a Retry-After header demands (RFC 9110: seconds or a date), None where it is none."""
    if text is None:
        return None
    value = text.strip()
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    longest_s = RETRY_AFTER_MAX.total_seconds()
    return timedelta(seconds=min(max(seconds, 0.0), longest_s) if math.isfinite(seconds) else longest_s)
