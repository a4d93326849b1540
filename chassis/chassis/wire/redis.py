"""Logs a process in to Redis, by its name and with the password in its file."""

from __future__ import annotations

from pathlib import Path

from redis.credentials import CredentialProvider

from chassis.settings import Settings


class RedisLogin(CredentialProvider):
    """The login of a process. It is read at each new connection, so that a password can be rotated meanwhile."""

    def __init__(self, user: str, password_file: Path) -> None:
        self._user = user
        self._password_file = password_file

    @classmethod
    def of(cls, settings: Settings) -> RedisLogin | None:
        """Return the login in a process's settings; None where Redis needs none."""
        password_file = settings.redis_password_file
        return None if password_file is None else cls(settings.redis_user, password_file)

    def get_credentials(self) -> tuple[str, str]:
        """Return the name and the present content of the password file."""
        return self._user, self._password_file.read_text().strip()

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return the same for a client of asyncio. It blocks only to read a file of one line."""
        return self.get_credentials()
