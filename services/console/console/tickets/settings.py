"""The settings of tickets, which are part of the console's. Without ``BARAZA_TICKETS`` there are none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic_settings import BaseSettings

SERVICENOW, WEBHOOK = "servicenow", "webhook"
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class TicketSettings(BaseSettings):
    """Where tickets are opened, and who may report alarms."""

    tickets: Literal["", "servicenow", "webhook"] = ""
    """The kind of ITSM: an instance of ServiceNow, or any receiver of signed messages."""
    tickets_url: str = ""
    """The address of the instance, or of the receiver."""
    tickets_secret_file: Path | None = None
    """Of ServiceNow ``user:password``; of a receiver the secrets that sign, one a line. It is read for each call."""
    tickets_alertmanager_file: Path | None = None
    """What Alertmanager has to present as a bearer token; of two lines both are accepted. It is read anew each time."""
    tickets_fields: str = ""
    """ServiceNow: a JSON object of fields of each new incident, such as ``{"assignment_group": "payments"}``."""
    tickets_close_code: str = "Solution provided"
    """ServiceNow: the close code of an incident whose alarm has ended, as the instance spells it."""
    runbooks_url: str = ""
    """What stands before ``docs/operations.md#…`` in the link to a runbook."""

    @property
    def incident_fields(self) -> Mapping[str, str]:
        """The fields in :attr:`tickets_fields`. Raises ValueError where they are none."""
        try:
            found = json.loads(self.tickets_fields or "{}")
        except ValueError as error:
            raise ValueError('BARAZA_TICKETS_FIELDS is no JSON; write {"field": "value"}.') from error
        if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
            raise ValueError('BARAZA_TICKETS_FIELDS needs a JSON object of texts, such as {"field": "value"}.')
        return found

    def check_tickets(self) -> tuple[str, Path, Path]:
        """Return the address, the secret file and Alertmanager's. Raises ValueError with the setting that is wrong."""
        address = urlsplit(self.tickets_url)
        if not address.hostname or not (
            address.scheme == "https" or (address.scheme == "http" and address.hostname in LOOPBACK)
        ):
            raise ValueError(f"BARAZA_TICKETS_URL is {self.tickets_url!r}; it needs an address with https.")
        if self.tickets_secret_file is None:
            raise ValueError("BARAZA_TICKETS needs BARAZA_TICKETS_SECRET_FILE, the login at the ITSM.")
        if self.tickets_alertmanager_file is None:
            raise ValueError("BARAZA_TICKETS needs BARAZA_TICKETS_ALERTMANAGER_FILE, what Alertmanager presents.")
        return self.tickets_url, self.tickets_secret_file, self.tickets_alertmanager_file
