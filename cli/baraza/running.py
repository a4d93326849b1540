"""The stack that is running, as the command line needs it: addresses, APIs, and where the audit may read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from baraza.terminal import Refusal

if TYPE_CHECKING:
    from stack.running import Stack

    from baraza.audit.sources import Sources
    from baraza.client import Api, Tokens

TRACKER_API = "saga-tracker-api"
AUDITOR = "audit"
"""The login that may read every database and write none."""


@dataclass(slots=True, kw_only=True)
class Running:
    """A stack that is up."""

    stack: Stack
    _tokens: Tokens | None = None

    @property
    def kafka(self) -> str:
        """The broker's address, ``host:port``."""
        return self.stack.endpoints.kafka

    @property
    def registry_url(self) -> str:
        """The schema registry's address, as Confluent's clients take it."""
        return self.stack.endpoints.registry_url

    def url(self, process: str) -> str:
        """Return the HTTP address of a process."""
        return self.stack.endpoints.url(process)

    def api(self, service: str) -> Api:
        """Return a service's API, called as a member of staff."""
        return self.apis(service)[0]

    def apis(self, service: str) -> list[Api]:
        """Return the API of each of a service's replicas, called as a member of staff."""
        from baraza.client import Api, Tokens

        if self._tokens is None:
            self._tokens = Tokens(self.url("issuer"))
        return [Api(service, url, self._tokens) for url in self.stack.endpoints.http[service]]

    def sources(self) -> Sources:
        """Return where the audit reads."""
        from saga_tracker.definitions import DEFINITIONS

        from baraza.audit.scratch import services_of
        from baraza.audit.sources import CHECKOUT, TRACKER, Sources

        services = (*services_of(DEFINITIONS), CHECKOUT, TRACKER)
        return Sources(
            databases={service: self.stack.database_url(service, AUDITOR) for service in services},
            gateway_url=self.url("gateway"),
            courier_url=self.url("courier"),
            kafka=self.kafka,
        )


def find(home: Path | None) -> Running:
    """Return the stack in ``home`` (by default the usual one). Raises Refusal where none is up there."""
    from stack.errors import NoStack
    from stack.running import Stack
    from stack.settings import from_environment

    settings = from_environment(home=home)
    try:
        return Running(stack=Stack.load(settings.home))
    except NoStack as error:
        raise Refusal(f"No stack is running in {settings.home}. Run ./baraza up.") from error


def is_up(home: Path | None) -> bool:
    """Say whether a stack is up in ``home``."""
    from stack.errors import NoStack
    from stack.running import Stack
    from stack.settings import from_environment

    try:
        Stack.load(from_environment(home=home).home)
    except NoStack:
        return False
    return True
