"""The token of each short code, shared by all processes: a new one makes the one before invalid.

One process at a time asks for a new one, under the row's lock; the others then read it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, DateTime, Engine, Table, Text

from chassis.postgres.statement import Statement
from mobile_money.tables import metadata

RENEWED_BEFORE: Final = timedelta(minutes=5)
"""A token lives for an hour, and is renewed at 55 minutes."""

provider_tokens = Table(
    "provider_tokens",
    metadata,
    Column("name", Text, primary_key=True, comment="of the short code"),
    Column("token", Text),
    Column("renew_at", DateTime(timezone=True)),
)

ENSURE: Final = Statement("INSERT INTO provider_tokens (name) VALUES (%(name)s) ON CONFLICT (name) DO NOTHING")
LOCK: Final = Statement("SELECT token, renew_at FROM provider_tokens WHERE name = %(name)s FOR UPDATE")
SAVE: Final = Statement("""
    UPDATE provider_tokens SET token = %(token)s, renew_at = %(renew_at)s WHERE name = %(name)s
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token, and when the next one is fetched."""

    value: str
    renew_at: datetime


class Tokens:
    """The tokens of one short code. ``fetch`` asks the provider for a new one and its seconds to live.

    ``fetch`` raises ``Unavailable`` where there is none.
    """

    def __init__(
        self, engine: Engine, name: str, fetch: Callable[[], tuple[str, float]], clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Token | None = None

    def current(self, *, but: str | None = None) -> str:
        """Return the token. ``but`` is one that the provider does not take any more."""
        with self._lock:
            known = self._known
            if known is None or known.value == but or known.renew_at <= self._clock():
                known = self._known = self._shared(but)
            return known.value

    def _shared(self, but: str | None) -> Token:
        with self._engine.begin() as tx:
            ENSURE.run(tx, {"name": self._name})
            (row,) = LOCK.rows(tx, {"name": self._name})
            if row.token is not None and row.token != but and row.renew_at > self._clock():
                return Token(value=row.token, renew_at=row.renew_at)
            value, lives_s = self._fetch()
            lives = max(timedelta(seconds=lives_s) - RENEWED_BEFORE, timedelta(minutes=1))
            token = Token(value=value, renew_at=self._clock() + lives)
            SAVE.run(tx, {"name": self._name, "token": token.value, "renew_at": token.renew_at})
            return token
