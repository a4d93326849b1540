"""The settings of the console, read once in ``main`` from the environment (prefix ``BARAZA_``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import SettingsConfigDict

from chassis.settings import TrustedIssuer
from console.tickets.settings import TicketSettings


class ConsoleSettings(TicketSettings):
    """All settings of the console.

    ``console_url`` is its address in a browser, ``console_apis`` the addresses of the services' APIs, such as
    ``ledger=http://ledger:8080``, with blanks between: of a service that is not there, the page reports that it is not
    running.
    """

    model_config = SettingsConfigDict(env_prefix="BARAZA_", extra="ignore", frozen=True)

    service: str = "console"
    http_host: str = "127.0.0.1"
    http_port: int = 0
    log_level: str = "INFO"
    console_url: str
    console_apis: str = ""
    console_key_file: Path
    """The keys that encrypt sessions, one a line: the newest, and those before it while they are replaced."""
    database_url: str
    """Its own database, with saved views and reveals. Pages that need neither work while it is away."""
    database_password_file: Path
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_user: str = ""
    redis_password_file: Path | None = None
    issuer: str
    """The identity provider, as its tokens name it (``iss``). Its endpoints are discovered there."""
    jwks_url: str
    audience: str = "baraza"
    """The audience of the APIs' access tokens."""
    issuers: tuple[TrustedIssuer, ...] = ()
    """As of the services, each with the roles that it may ever give. Only that of ``issuer`` counts here."""
    console_discovery_url: str = ""
    """Where this process finds the provider's description, if not below ``issuer``."""
    console_client_id: str = "baraza-console"
    console_client_secret_file: Path
    console_scope: str = "openid profile offline_access"
    console_roles: str = ""
    """The roles of rights where they differ from :data:`console.rights.ROLES`, such as ``cancel=operator,support``."""
    console_trace_url: str = ""
    """The address of a saga's trace, with ``{saga_id}`` in it; without it there is no link."""

    @property
    def apis(self) -> Mapping[str, str]:
        """The addresses in :attr:`console_apis` by service. Raises ValueError where it is none."""
        return _pairs(self.console_apis)

    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]:
        """The roles in :attr:`console_roles` by right. Raises ValueError where it is none."""
        return {right: tuple(roles.split(",")) for right, roles in _pairs(self.console_roles).items()}

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in :attr:`console_key_file`. Raises OSError where it cannot be read."""
        return tuple(self.console_key_file.read_text().split())

    @property
    def client_secret(self) -> str:
        """The client's secret. Raises OSError where it cannot be read."""
        return self.console_client_secret_file.read_text().strip()


def _pairs(text: str) -> dict[str, str]:
    """Return the values by name of ``name=value name=value``. Raises ValueError."""
    found = [each.partition("=") for each in text.split()]
    if any(not name or not value for name, _, value in found):
        raise ValueError(f"{text!r} is not of the form name=value name=value.")
    return {name: value for name, _, value in found}
