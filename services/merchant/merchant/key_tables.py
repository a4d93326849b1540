"""Every statement on idempotency keys: what they were used for, and the locks by which one request uses each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from chassis.postgres.statement import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedKey:
    """What an idempotency key was used for."""

    fingerprint: bytes
    payment_id: int
    operation_id: int | None


TRY_LOCK = Statement("""
    SELECT ordinal FROM unnest(CAST(%(locks)s AS bigint[])) WITH ORDINALITY AS row (lock, ordinal)
    WHERE pg_try_advisory_xact_lock(lock)
""")

USED_KEYS = Statement("""
    SELECT digest, fingerprint, payment_id, operation_id FROM idempotency_keys
    WHERE digest = ANY(CAST(%(digests)s AS bytea[]))
""")

CLAIM_KEY = text("""
    INSERT INTO idempotency_keys (digest, fingerprint, payment_id, operation_id, created_at)
    VALUES (:digest, :fingerprint, :payment_id, :operation_id, :now)
""")


def lock_keys_and_load(
    tx: Connection, locks: Sequence[int], digests: Sequence[bytes]
) -> tuple[set[int], dict[bytes, UsedKey]]:
    """Take the advisory locks of a batch of keys that are free, and load what was committed under the keys.

    Return the indexes of the locks that were free, and the used keys by digest. A lock that another transaction holds
    is skipped, not awaited.
    """
    locked = TRY_LOCK.submit(tx, {"locks": list(locks)})
    used = USED_KEYS.submit(tx, {"digests": list(digests)})
    indexes = {row.ordinal - 1 for row in locked.rows()}
    return indexes, {
        bytes(row.digest): UsedKey(
            fingerprint=bytes(row.fingerprint), payment_id=row.payment_id, operation_id=row.operation_id
        )
        for row in used.rows()
    }


def claim_key(tx: Connection, digest: bytes, used: UsedKey, *, now: datetime) -> None:
    """Store a key with what it is used for."""
    tx.execute(CLAIM_KEY, {"digest": digest, **asdict(used), "now": now})
