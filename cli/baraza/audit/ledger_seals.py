"""Compares the ledger's rows with their seals, from outside: with the audit's login, which can write nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError

from baraza.audit.providers import Unreadable
from baraza.audit.sources import AUDITOR
from baraza.system.running import Running
from chassis.postgres.bounds import AUDITING
from ledger.store.verification import Verification
from ledger.store.verification import verify as verify_on

LEDGER = "ledger"


class Verified(Verification):
    """What was compared, and what differs."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that --json prints."""
        return {"ledger": "red" if self.damages else "green", **asdict(self)}


def verify(stack: Running, published: Mapping[int, tuple[int, bytes]] | None) -> Verified:
    """Verify a stack's ledger in one snapshot. Raises Unreadable."""
    return verify_at(stack.database_url(LEDGER, AUDITOR), published)


def verify_at(url: str, published: Mapping[int, tuple[int, bytes]] | None) -> Verified:
    """Verify the ledger in the database at this address. Raises Unreadable."""
    engine = create_engine(
        url.replace("postgresql:", "postgresql+psycopg:", 1),
        isolation_level="REPEATABLE READ",
        poolclass=NullPool,
        connect_args=AUDITING.arguments,
    )
    try:
        with engine.connect() as tx:
            return Verified(**asdict(verify_on(tx, published)))
    except OperationalError as error:
        raise Unreadable(f"The ledger's database cannot be read ({error.orig}). Run ./baraza status.") from error
    finally:
        engine.dispose()
