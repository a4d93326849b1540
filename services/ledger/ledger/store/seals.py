"""Seals batches after the fact, chain by chain: bookings never wait for it.

A batch is sealed once it is committed, whatever its number, so no transaction under way can be left out. One process
at a time seals a chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from ledger.model.chain import CHAINS, GENESIS, Seal, sealed
from ledger.store.batch_rows import rows_of
from ledger.store.schema import batches

BATCHES_MAX = 200
TRANSFERS_MAX = 20_000
"""Of one transaction that seals: some ten megabytes of rows in memory."""
SEALING_LOCK = 0x6C656467_00010000
"""The advisory lock of the first chain."""

SEALS = Columns.of(batches, sources={"id": "batch_id"}).without("booked_at", "sealed_at", "transfer_count")

LOCK_CHAIN = text("SELECT pg_advisory_xact_lock(:key)")
HEAD = text("""
    SELECT position, chain_hash FROM batches
    WHERE partition = :partition AND position IS NOT NULL ORDER BY position DESC LIMIT 1
""")
UNSEALED = text("""
    SELECT id, transfer_count FROM batches
    WHERE position IS NULL AND mod(id, :chains) = :partition ORDER BY id LIMIT :count
""")
ADD_SEALS = Statement(f"""
    UPDATE batches SET {SEALS.assignments}, sealed_at = %(sealed_at)s
    FROM {SEALS.rows}
    WHERE batches.id = row.id AND batches.position IS NULL
""")


def seal_chain(partition: int, tx: Connection, *, now: datetime) -> int:
    """Seal some of the batches of a chain that are not sealed yet, and return how many. The caller commits."""
    tx.execute(LOCK_CHAIN, {"key": SEALING_LOCK + partition})
    head = tx.execute(HEAD, {"partition": partition}).one_or_none()
    position, previous = (0, GENESIS) if head is None else (head.position, bytes(head.chain_hash))
    listed = tx.execute(UNSEALED, {"partition": partition, "chains": CHAINS, "count": BATCHES_MAX}).all()
    blocks: list[int] = []
    count = 0
    for row in listed:
        if blocks and count + row.transfer_count > TRANSFERS_MAX:
            break
        blocks.append(row.id)
        count += row.transfer_count
    if blocks:
        found = rows_of(blocks, tx)
        seals: list[Seal] = []
        for following, block in enumerate(blocks, position + 1):
            seals.append(sealed(block, partition, following, found[block], previous))
            previous = seals[-1].chain_hash
        ADD_SEALS.run(tx, SEALS.parameters(seals) | {"sealed_at": now})
    return len(blocks)


def seal_all(tx: Connection, *, now: datetime) -> int:
    """Seal every batch that is committed, in one transaction, and return how many."""
    return sum(count for partition in range(CHAINS) for count in _until_none(partition, tx, now))


def _until_none(partition: int, tx: Connection, now: datetime) -> Iterator[int]:
    while count := seal_chain(partition, tx, now=now):
        yield count


def heads(tx: Connection) -> dict[int, tuple[int, bytes]]:
    """Return the last position of every chain with its hash, by partition."""
    found = ((partition, tx.execute(HEAD, {"partition": partition}).one_or_none()) for partition in range(CHAINS))
    return {partition: (row.position, bytes(row.chain_hash)) for partition, row in found if row is not None}
