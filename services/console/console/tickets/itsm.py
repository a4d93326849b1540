"""What every ITSM is used for, whichever it is: one ticket is made to fit one alarm."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx

from console.tickets.alarms import Alarm

TIMEOUT_S: Final = 15.0
"""An ITSM runs rules of its own when a ticket is stored, so it is slower than a service of ours."""
DETAIL_MAX: Final = 300

Json = Any


class Outcome(StrEnum):
    """What was done for a report of an alarm."""

    OPENED = "opened"
    REOPENED = "reopened"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    RESOLVED = "resolved"
    NO_TICKET = "no_ticket"
    """The alarm has ended, and no open ticket was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A ticket as people know it. ``url`` is its page, empty where that is not known."""

    number: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was done, and with which ticket."""

    outcome: Outcome
    ticket: Ticket | None


class Unavailable(Exception):
    """The ticket could not be made to fit the alarm: {reason}. Report the alarm again.

    ``is_uncertain``: a ticket may have been opened, or may still be opened by what was sent.
    """

    def __init__(self, reason: str, *, is_uncertain: bool = False) -> None:
        super().__init__(reason)
        self.is_uncertain = is_uncertain


class Itsm(Protocol):
    """An ITSM."""

    async def apply(self, alarm: Alarm, now: datetime) -> Applied:
        """Open, update or resolve the ticket of an alarm. Raises Unavailable.

        A report that comes again changes nothing, as long as no outcome before was uncertain.
        """
        ...


async def call(http: httpx.AsyncClient, request: httpx.Request, *, opens: bool) -> httpx.Response:
    """Make one call and return an answer below 300. Raises Unavailable.

    ``opens``: it may open a ticket, so that a lost answer is uncertain. No redirect is followed: the login would go
    along.
    """
    target = f"{request.method} {request.url.host}{request.url.path}"
    try:
        # httpx limits each piece of an answer, and this the whole of it.
        async with asyncio.timeout(TIMEOUT_S):
            response = await http.send(request, follow_redirects=False)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Unavailable(f"{target} cannot be reached: {type(error).__name__}.") from error
    except (httpx.HTTPError, TimeoutError) as error:
        raise Unavailable(f"{target} gave no answer: {type(error).__name__}.", is_uncertain=opens) from error
    if response.status_code >= 500:
        raise Unavailable(f"{target} answered {response.status_code}.", is_uncertain=opens)
    if response.status_code >= 300:
        detail = " ".join(response.text.split())[:DETAIL_MAX]
        raise Unavailable(f"{target} refused with {response.status_code}: {detail}")
    return response


def secrets_in(file: Path) -> list[str]:
    """Return the lines of a secret file, read anew, so that it can be replaced. Raises Unavailable."""
    try:
        lines = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}. Check BARAZA_TICKETS_SECRET_FILE.") from error
    if not lines:
        raise Unavailable(f"{file} is empty. Check BARAZA_TICKETS_SECRET_FILE.")
    return lines


def page_or_nothing(url: str) -> str:
    """Return the address of a ticket's page where a link may lead there, else an empty text."""
    return url if urlsplit(url).scheme in ("https", "http") and url.isprintable() else ""
