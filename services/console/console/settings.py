"""The settings of the console, read once in ``main`` from the environment (prefix ``BARAZA_``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class ConsoleSettings(BaseSettings):
    """All settings of the console.

    ``console_url`` is its address in a browser, ``console_apis`` the addresses of the services' APIs by service (JSON):
    of a service that is not there, the page reports that it is not running.
    """

    model_config = SettingsConfigDict(env_prefix="BARAZA_", extra="ignore", frozen=True)

    service: str = "console"
    http_host: str = "127.0.0.1"
    http_port: int = 0
    log_level: str = "INFO"
    console_url: str
    console_apis: Mapping[str, str] = {}
    console_key_file: Path
    """The keys that encrypt sessions, one a line: the newest, and those before it while they are replaced."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_user: str = ""
    redis_password_file: Path | None = None
    issuer: str
    """The identity provider, as its tokens name it (``iss``). Its endpoints are discovered there."""
    jwks_url: str
    audience: str = "baraza"
    """The audience of the APIs' access tokens."""
    console_discovery_url: str = ""
    """Where this process finds the provider's description, if not below ``issuer``."""
    console_client_id: str = "baraza-console"
    console_client_secret_file: Path
    console_scope: str = "openid profile offline_access"
    console_roles: Mapping[str, tuple[str, ...]] = {}
    """The roles of each right, where they differ from :data:`console.rights.ROLES` (JSON)."""
    console_trace_url: str = ""
    """The address of a saga's trace, with ``{saga_id}`` in it; without it there is no link."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in :attr:`console_key_file`. Raises OSError where it cannot be read."""
        return tuple(self.console_key_file.read_text().split())

    @property
    def client_secret(self) -> str:
        """The client's secret. Raises OSError where it cannot be read."""
        return self.console_client_secret_file.read_text().strip()
