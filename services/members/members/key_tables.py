"""Every statement on idempotency keys: what they were used for, and the locks by which one request uses each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from chassis.http.problem import FieldError, Problem
from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.values.json_text import compact
from members.tables import keys


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedKey:
    """An idempotency key with the body that it was used for, and what that led to."""

    digest: bytes
    body: Mapping[str, Any]
    result_id: str
    created_at: datetime


COLUMNS = Columns.of(keys, sources={"body": lambda row: compact(dict(row.body))})

TRY_LOCK = Statement("""
    SELECT ordinal FROM unnest(CAST(%(locks)s AS bigint[])) WITH ORDINALITY AS row (lock, ordinal)
    WHERE pg_try_advisory_xact_lock(lock)
""")

USED = Statement(f"SELECT {COLUMNS.names} FROM keys WHERE digest = ANY(CAST(%(digests)s AS bytea[]))")

CLAIM = Statement(f"INSERT INTO keys ({COLUMNS.names}) SELECT {COLUMNS.values} FROM {COLUMNS.rows}")


def key_digest(caller: str, route: str, key: str) -> bytes:
    """Return what an idempotency key is stored as. Each part has its length before it."""
    texts = (each.encode() for each in (caller, route, key))
    return hashlib.sha256(b"".join(len(each).to_bytes(4) + each for each in texts)).digest()


def lock_and_load(tx: Connection, digests: Sequence[bytes]) -> tuple[set[bytes], dict[bytes, UsedKey]]:
    """Take the advisory locks of these keys that are free, and load what was committed under the keys.

    Return the digests whose lock was free, and the used keys. A lock that another request holds is not awaited.
    """
    locked = TRY_LOCK.submit(tx, {"locks": [int.from_bytes(each[:8], signed=True) for each in digests]})
    used = USED.submit(tx, {"digests": list(digests)})
    free = {digests[row.ordinal - 1] for row in locked.rows()}
    return free, {
        bytes(row.digest): UsedKey(
            digest=bytes(row.digest), body=row.body, result_id=row.result_id, created_at=row.created_at
        )
        for row in used.rows()
    }


def claim(tx: Connection, used: Sequence[UsedKey]) -> None:
    """Store keys with what they are used for."""
    if used:
        CLAIM.run(tx, COLUMNS.parameters(used))


def check_same(used: UsedKey, body: Mapping[str, Any]) -> Problem | None:
    """Return the problem that names the fields in which a body differs from the one that the key was used for."""
    names = sorted(name for name in {*used.body, *body} if used.body.get(name) != body.get(name))
    if not names:
        return None
    errors = [FieldError(pointer=f"#/{name}", detail="Not as in the first request with this key.") for name in names]
    return Problem(
        status=409,
        title="The key was used for another body",
        detail=f"This Idempotency-Key was used with another {names[0]}; send a new request with a new key.",
        type="urn:baraza:problem:idempotency-mismatch",
        extra={"errors": [each.to_json() for each in errors]},
    )


def in_progress() -> Problem:
    """Return the problem of a key that another request is using."""
    return Problem(
        status=409,
        title="A request with this key is in progress",
        detail="Another request with this Idempotency-Key is being handled; send this one again after it.",
        type="urn:baraza:problem:idempotency-in-progress",
        headers={"Retry-After": "1"},
    )
