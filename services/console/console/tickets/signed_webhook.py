"""Any other ITSM: a signed JSON message to one address (Standard Webhooks 1.0.0) for each report of an alarm.

The receiver opens, updates or resolves the ticket of ``data.correlation_id``, one for each, however often a message
comes. What it answers with may name the ticket: ``{"number": …, "url": …}``.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from chassis.http import webhook_signing
from chassis.values.json_text import compact
from console.tickets.alarms import Alarm
from console.tickets.itsm import TIMEOUT_S, Applied, Outcome, Ticket, Unavailable, call, page_or_nothing, secrets_in

NUMBER_MAX: Final = 64

Json = Any


class SignedWebhook:
    """One receiver, which is idempotent by correlation id, so that no outcome is uncertain: it is sent again."""

    def __init__(self, http: httpx.AsyncClient, *, url: str, secret_file: Path) -> None:
        self._http = http
        self._url = url
        self._secret_file = secret_file

    async def apply(self, alarm: Alarm, now: datetime) -> Applied:
        """Send the alarm. Raises Unavailable."""
        data = {
            "correlation_id": alarm.correlation_id,
            "name": alarm.name,
            "severity": alarm.severity,
            "title": alarm.title,
            "text": alarm.text,
            "runbook": alarm.runbook,
            "console": alarm.console,
            "began_at": alarm.began_at,
        }
        kind = "alarm.firing" if alarm.is_firing else "alarm.resolved"
        # The same report has the same id, when it comes again.
        message_id = f"{alarm.correlation_id}-{hashlib.sha256(compact([kind, data]).encode()).hexdigest()[:16]}"
        stamp = now.astimezone(UTC).isoformat().replace("+00:00", "Z")
        body = compact({"type": kind, "timestamp": stamp, "data": data}).encode()
        headers = {
            **self._signatures(message_id, now, body), "content-type": "application/json", "accept": "application/json",
        }  # fmt: skip
        request = self._http.build_request("POST", self._url, content=body, headers=headers, timeout=TIMEOUT_S)
        ticket = _ticket(await call(self._http, request, opens=False), alarm.correlation_id)
        return Applied(outcome=Outcome.UPDATED if alarm.is_firing else Outcome.RESOLVED, ticket=ticket)

    def _signatures(self, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
        try:
            return dict(webhook_signing.headers(secrets_in(self._secret_file), message_id, now, body))
        except ValueError as error:
            raise Unavailable("BARAZA_TICKETS_SECRET_FILE needs lines of whsec_ and base64.") from error


def _ticket(response: httpx.Response, correlation_id: str) -> Ticket:
    """Return the ticket that an answer names; without one, the alarm's id is what the receiver can be searched for."""
    try:
        answer: Json = response.json()
    except ValueError:
        answer = None
    named = answer if isinstance(answer, dict) else {}
    number, url = named.get("number"), named.get("url")
    return Ticket(
        number=number[:NUMBER_MAX] if isinstance(number, str) and number else correlation_id,
        url=page_or_nothing(url) if isinstance(url, str) else "",
    )
