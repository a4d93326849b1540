"""The stack that is running, as the command line needs it: addresses, APIs, and where the audit may read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from baraza.terminal import Refusal

if TYPE_CHECKING:
    from chassis.wire.kafka import KafkaLogin
    from stack.elsewhere import Elsewhere
    from stack.running import Stack

    from baraza.audit.sources import Sources
    from baraza.client import Api, Tokens

TRACKER_API = "saga-tracker-api"
AUDITOR = "audit"
"""The login that may read every database and every dead letter, and write nothing."""


class Running:
    """A stack that is up, here or elsewhere."""

    def __init__(self, *, stack: Stack | Elsewhere) -> None:
        self._place = stack
        self._tokens: Tokens | None = None

    @property
    def stack(self) -> Stack:
        """The stack itself, to start and stop parts of it. Raises Refusal for one elsewhere."""
        from stack.elsewhere import VARIABLE, Elsewhere

        if isinstance(self._place, Elsewhere):
            raise Refusal(f"This can only be done with a stack that ./baraza started; unset {VARIABLE}.")
        return self._place

    @property
    def kafka(self) -> KafkaLogin:
        """How the command line looks at Kafka: it may read every topic and write none."""
        from stack.contract import OPERATOR

        return self._place.kafka(OPERATOR)

    @property
    def registry_url(self) -> str:
        """The schema registry's address, as Confluent's clients take it."""
        return self._place.endpoints.registry_url

    def url(self, process: str) -> str:
        """Return the HTTP address of a process."""
        return self._place.endpoints.url(process)

    def api(self, service: str) -> Api:
        """Return a service's API, called as a member of staff."""
        return self.apis(service)[0]

    def apis(self, service: str) -> list[Api]:
        """Return the API of each of a service's replicas, called as a member of staff."""
        from baraza.client import Api, Tokens

        if self._tokens is None:
            self._tokens = Tokens(self.url("issuer"))
        return [Api(service, url, self._tokens) for url in self._place.endpoints.http[service]]

    def sources(self) -> Sources:
        """Return where the audit reads."""
        from saga_tracker.definitions import DEFINITIONS

        from baraza.audit.scratch import services_of
        from baraza.audit.sources import CHECKOUT, TRACKER, Sources

        services = (*services_of(DEFINITIONS), CHECKOUT, TRACKER)
        return Sources(
            databases={service: self._place.database_url(service, AUDITOR) for service in services},
            gateway_url=self.url("gateway"),
            courier_url=self.url("courier"),
            kafka=self._place.kafka(AUDITOR),
        )


def find(home: Path | None) -> Running:
    """Return the stack elsewhere that the environment names, or else the one in ``home`` (by default the usual one).

    Raises Refusal where none is up there.
    """
    there = elsewhere()
    return there if there is not None else Running(stack=load(home))


def elsewhere() -> Running | None:
    """Return the stack whose places are in the file that ``BARAZA_PLACES`` names, as in a container; None without."""
    from stack.elsewhere import VARIABLE, Elsewhere

    file = os.environ.get(VARIABLE)
    return Running(stack=Elsewhere.read(Path(file))) if file else None


def load(home: Path | None) -> Stack:
    """Return the stack in ``home``, which can be started and stopped. Raises Refusal where none is up there."""
    from stack.errors import NoStack
    from stack.running import Stack
    from stack.settings import from_environment

    settings = from_environment(home=home)
    try:
        return Stack.load(settings.home)
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
