"""A running stack as the command line needs it: addresses, APIs and logins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from baraza.terminal import Refusal, UsageRefusal

if TYPE_CHECKING:
    from baraza.system.client import Api, Authorization
    from chassis.wire.kafka import KafkaLogin
    from stack.lifecycle import Stack
    from stack.remote import RemoteStack

TRACKER_API = "saga-tracker-api"
CONSOLE = "console"
TOKEN_FILE = "BARAZA_TOKEN_FILE"
"""The variable with a file whose token every call has instead of one of the development issuer."""
STAFF = "baraza-cli"
"""The member of staff who calls the APIs, unless another one is named."""

_homes: set[Path] = set()
"""The homes of the stacks on this machine that this command works on; one, as a rule."""


class Running:
    """A stack that is up, on this machine or elsewhere."""

    def __init__(self, *, stack: Stack | RemoteStack) -> None:
        self._deployment = stack
        self._tokens: Authorization | None = None

    @property
    def stack(self) -> Stack:
        """The stack itself, to start and stop its processes. Raises Refusal for one elsewhere."""
        from stack.remote import VARIABLE, RemoteStack

        if isinstance(self._deployment, RemoteStack):
            raise Refusal(f"This can only be done with a stack that ./baraza started; unset {VARIABLE}.")
        return self._deployment

    @property
    def kafka(self) -> KafkaLogin:
        """The command line's login at Kafka: it may read every topic and write none."""
        from stack.contract import OPERATOR

        return self.kafka_login(OPERATOR)

    @property
    def registry_url(self) -> str:
        """The schema registry's address, as Confluent's clients take it."""
        return self._deployment.endpoints.registry_url

    def kafka_login(self, user: str) -> KafkaLogin:
        """Return how a user logs in at Kafka."""
        return self._deployment.kafka(user)

    def database_url(self, service: str, login: str) -> str:
        """Return the connection string of a service's database, password included."""
        return self._deployment.database_url(service, login)

    def url(self, process: str) -> str:
        """Return the HTTP address of a process."""
        return self._deployment.endpoints.url(process)

    def urls(self, service: str) -> tuple[str, ...]:
        """Return the HTTP address of each of a service's replicas."""
        return tuple(self._deployment.endpoints.urls(service))

    def is_started(self, service: str) -> bool:
        """Return whether a service or simulator is one that this stack starts."""
        return service not in self._deployment.endpoints.absent

    def absence(self, service: str) -> str:
        """Return how to start a service or simulator that :meth:`is_started` denies."""
        return self._deployment.endpoints.absent[service]

    def require(self, saga: str) -> None:
        """Raise NotStarted where a service of the saga is not started: what is begun there would wait for it."""
        from saga_tracker.definitions import newest

        for service in newest(saga).participants:
            self.url(service)

    def api(self, service: str) -> Api:
        """Return a service's API, called as a member of staff."""
        return self.apis(service)[0]

    def api_as(self, service: str, staff: str) -> Api:
        """Return a service's API, called as the member of staff with that name.

        Raises UsageRefusal where a token file names another person.
        """
        from baraza.system.client import Api, Tokens

        if file := os.environ.get(TOKEN_FILE):
            if staff != STAFF:
                raise UsageRefusal(f"{TOKEN_FILE} is set, and its token names who acts; leave --by out, or unset it.")
            return self.api_by(service, Path(file))
        return Api(service, self._deployment.endpoints.urls(service)[0], Tokens(self.url("issuer"), subject=staff))

    def api_by(self, service: str, token_file: Path) -> Api:
        """Return a service's API, called by the token in a file."""
        from baraza.system.client import Api, TokenFile

        return Api(service, self._deployment.endpoints.urls(service)[0], TokenFile(token_file))

    def apis(self, service: str) -> list[Api]:
        """Return the API of each of a service's replicas, called as a member of staff."""
        from baraza.system.client import Api, TokenFile, Tokens

        if self._tokens is None:
            file = os.environ.get(TOKEN_FILE)
            self._tokens = TokenFile(Path(file)) if file else Tokens(self.url("issuer"))
        return [Api(service, url, self._tokens) for url in self._deployment.endpoints.urls(service)]


def find(home: Path | None) -> Running:
    """Return the stack elsewhere that the environment names, or else the one in ``home`` (None: the default home).

    Raises Refusal where none is up there.
    """
    found = elsewhere()
    return found if found is not None else Running(stack=load(home))


def elsewhere() -> Running | None:
    """Return the stack whose addresses are in the file that ``BARAZA_PLACES`` names; None where it is not set."""
    from stack.remote import VARIABLE, RemoteStack

    file = os.environ.get(VARIABLE)
    return Running(stack=RemoteStack.read(Path(file))) if file else None


def load(home: Path | None) -> Stack:
    """Return the stack in ``home``, which can be started and stopped. Raises Refusal where none is up there."""
    from stack.errors import NoStack
    from stack.lifecycle import Stack
    from stack.settings import from_environment

    settings = from_environment(home=home)
    remember(settings.home)
    try:
        return Stack.load(settings.home)
    except NoStack as error:
        raise Refusal(f"No stack is running in {settings.home}. Run ./baraza up.") from error


def remember(home: Path) -> None:
    """Record the home that the command works on, for :func:`shortage`."""
    _homes.add(home)


def shortage() -> str | None:
    """Return a sentence where the disk of the command's stack is full, which is why other errors show."""
    from stack.home import Home

    found = (Home(home).shortage() for home in _homes)
    return next((text for text in found if text), None)


def is_up(home: Path | None) -> bool:
    """Return whether a stack is up in ``home``."""
    from stack.errors import NoStack
    from stack.lifecycle import Stack
    from stack.settings import from_environment

    try:
        Stack.load(from_environment(home=home).home)
    except NoStack:
        return False
    return True
