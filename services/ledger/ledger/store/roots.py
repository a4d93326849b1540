"""The root of a closed day: one hash over its end, the heads of all chains, its totals, and the accounts of its chart.

Accounts are chained as batches are: each day has a digest over that of the day before and the accounts opened since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from ledger.model.chain import GENESIS
from ledger.store.batch_rows import AS_SEALED

ID_MAX = (1 << 63) - 1
TIME = "%Y-%m-%d-%H-%M-%S-%f"
"""As ``closed_days`` has PostgreSQL print a time."""

OPENED = text("""
    SELECT coalesce(max(id), CAST(:after AS bigint)) AS last_id,
           coalesce(string_agg(
               CAST(ROW(id, path, chart, code, owner, kind, currency, lanes, opened_at) AS text), chr(10) ORDER BY id
           ), '') AS printed
    FROM accounts WHERE chart = :chart AND id > :after AND id <= :last
""")
LAST_CLOSE = text("""
    SELECT last_account_id, accounts_digest FROM day_closes WHERE chart = :chart ORDER BY day DESC LIMIT 1
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The accounts of a chart up to an id, with their digest."""

    last_id: int
    digest: bytes


NONE = Accounts(last_id=-ID_MAX - 1, digest=GENESIS)
"""Before the first day of a chart is closed."""


def accounts_now(chart: str, tx: Connection) -> Accounts:
    """Return the accounts of a chart. No account may be opened meanwhile."""
    last = tx.execute(LAST_CLOSE, {"chart": chart}).one_or_none()
    return accounts_since(
        chart, NONE if last is None else Accounts(last_id=last.last_account_id, digest=last.accounts_digest), tx
    )


def accounts_since(chart: str, before: Accounts, tx: Connection, *, last_id: int = ID_MAX) -> Accounts:
    """Return the accounts of a chart up to an id, from those of its day before."""
    tx.execute(AS_SEALED)
    row = tx.execute(OPENED, {"chart": chart, "after": before.last_id, "last": last_id}).one()
    digest = hashlib.sha256(before.digest + row.printed.encode()).digest()
    return Accounts(last_id=row.last_id, digest=digest)


def printed(at: datetime) -> str:
    """Return a time as the root has it."""
    return at.astimezone(UTC).strftime(TIME)


def root_of(
    place: tuple[str, ...], times: tuple[str, str], heads: str, accounts: Accounts, totals: Iterable[tuple[str, ...]]
) -> bytes:
    """Return the root of a day: its chart, date and ids, when it ended and was closed, what is in it.

    Codes, currencies and numbers have no newline and no tab in them.
    """
    listed = sorted("\t".join(line) for line in totals)
    opened = f"{accounts.last_id}:{accounts.digest.hex()}"
    return hashlib.sha256("\n".join([*place, *times, heads, opened, *listed]).encode()).digest()
