"""When what we log in with at providers ends, as a metric. It names no secret."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Final

from prometheus_client import Gauge

from mobile_money.readings import NAIROBI

PASSWORD, CERTIFICATE = "password", "certificate"
PASSWORD_LIVES: Final = timedelta(days=90)
"""Daraja ends the password of an initiator then."""
EXPIRES_AT: Final = Gauge(
    "baraza_money_credential_expires_timestamp_seconds",
    "When a credential of a short code ends, as a Unix time, by name and credential: password or certificate.",
    ["name", "credential"],
)


def note_password(name: str, set_on: date | None) -> None:
    """Note when an initiator's password ends; nothing where the file of short codes does not say when it was set."""
    if set_on is not None:
        ends_at = datetime.combine(set_on, time(), NAIROBI) + PASSWORD_LIVES
        EXPIRES_AT.labels(name, PASSWORD).set(ends_at.timestamp())


def note_certificate(name: str, ends_at: datetime) -> None:
    """Note when a provider's certificate ends."""
    EXPIRES_AT.labels(name, CERTIFICATE).set(ends_at.timestamp())
