"""Puts the first use of each token of break-glass into the operators' log, before it counts for anything here."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Engine

from chassis.http.auth import Authenticator, BreakGlass, Principal
from chassis.wire.envelope import derived_id
from saga_tracker.store import operator_log
from saga_tracker.store.operator_log import LogEntry

ACT: Final = "BREAK_GLASS"
KNOWN_MAX: Final = 1_000
"""Tokens that this process knows to be logged; beyond this number it logs each once more, which changes nothing."""


class LoggedBreakGlass:
    """Authenticates as the verifier that it is given does. A token whose use cannot be logged is not accepted."""

    def __init__(self, verifier: Authenticator, engine: Engine) -> None:
        self._verifier = verifier
        self._engine = engine
        self._logged: set[str] = set()

    async def authenticate(self, token: str) -> Principal:
        """Return the caller that the token identifies. Raises what the verifier and PostgreSQL raise."""
        caller = await self._verifier.authenticate(token)
        opened = caller.break_glass
        if opened is not None and opened.token_id not in self._logged:
            await asyncio.to_thread(self._log, caller, opened)
            if len(self._logged) >= KNOWN_MAX:
                self._logged.clear()
            self._logged.add(opened.token_id)
        return caller

    def _log(self, caller: Principal, opened: BreakGlass) -> None:
        entry = LogEntry(
            act_id=derived_id("break-glass", opened.token_id),
            at=datetime.now(UTC),
            actor=caller.actor,
            act=ACT,
            reason=opened.reason,
            detail=f"as {' and '.join(sorted(caller.roles)) or 'nothing'} until {opened.until.isoformat()}",
        )
        with self._engine.begin() as tx:
            operator_log.log(tx, [entry])
