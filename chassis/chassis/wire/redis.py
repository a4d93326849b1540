"""How a process logs in to Redis: by name, and with the password that its file holds when it connects."""

from __future__ import annotations

from pathlib import Path

from redis.credentials import CredentialProvider

from chassis.settings import Settings


class RedisLogin(CredentialProvider):
    """Read at each new connection, so that a password can be rotated while the process runs."""

    def __init__(self, user: str, password_file: Path) -> None:
        self._user = user
        self._password_file = password_file

    @classmethod
    def of(cls, settings: Settings) -> RedisLogin | None:
        """Return the login that a process's settings name; None where Redis wants none."""
        password_file = settings.redis_password_file
        return None if password_file is None else cls(settings.redis_user, password_file)

    def get_credentials(self) -> tuple[str, str]:
        """Return the name and the password that the file has now."""
        return self._user, self._password_file.read_text().strip()

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return the same for a client of asyncio; the file is one short line."""
        return self.get_credentials()
