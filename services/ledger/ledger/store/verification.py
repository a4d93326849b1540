"""Compares every row with its seal, and every seal with the one before it; names the first that differs.

Rows are printed by PostgreSQL and hashed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from ledger.model.chain import BATCH_ID_MAX, CHAINS, GENESIS, Seal, content_digest, first_damage
from ledger.store import closed_days
from ledger.store.batch_rows import content_of, rows_of
from ledger.store.closed_days import Close

PAGE_BATCHES = 200

SEALS = text("""
    SELECT id AS batch_id, partition, position, transfer_count, coalesce(content_digest, '') AS content_digest,
           coalesce(row_digests, '') AS row_digests, coalesce(chain_hash, '') AS chain_hash
    FROM batches
    WHERE partition = :partition AND (position, id) > (:position, :id) AND id >= 1 AND id <= :id_max
    ORDER BY position, id LIMIT :count
""")
MISPLACED = text("""
    SELECT id, partition, position FROM batches
    WHERE id < 1 OR id > :id_max OR (position IS NULL) <> (partition IS NULL) OR position < 1
       OR partition <> mod(id, :chains)
    ORDER BY id
""")
"""What no chain covers. The table refuses it as well, until a superuser drops its constraints."""
LEFT_OUT = text("""
    SELECT unsealed.id, newest FROM batches AS unsealed
    JOIN (
        SELECT mod(id, :chains) AS chain, max(id) AS newest FROM batches
        WHERE position IS NOT NULL AND (sealed_at IS NULL OR sealed_at < now() - interval '1 hour')
        GROUP BY chain
    ) AS long_sealed ON chain = mod(unsealed.id, :chains) AND newest > unsealed.id
    WHERE position IS NULL AND unsealed.id >= 1
    ORDER BY unsealed.id
""")
"""Batches are sealed every second, those with the lowest numbers first."""
WITHOUT_BATCH = text("""
    SELECT min(transfers.id) FROM transfers LEFT JOIN batches ON batches.id = transfers.id >> 10
    WHERE batches.id IS NULL
""")
WITHOUT_TRANSFER = text("""
    SELECT transfer_id, ordinal FROM transfer_entries LEFT JOIN transfers ON transfers.id = transfer_id
    WHERE transfers.id IS NULL ORDER BY transfer_id, ordinal LIMIT 1
""")
COUNT_UNSEALED = text("SELECT count(*) FROM batches WHERE position IS NULL")


@dataclass(slots=True, kw_only=True)
class Verification:
    """What was compared, and what differs, each as a sentence: the first of every chain, then what no seal covers."""

    transfers: int = 0
    entries: int = 0
    unsealed_batches: int = 0
    damages: list[str] = field(default_factory=list)


def verify(tx: Connection, published: Mapping[int, tuple[int, bytes]] | None = None) -> Verification:
    """Compare everything. ``published`` are heads of chains that were kept outside, by partition."""
    found = Verification(unsealed_batches=tx.execute(COUNT_UNSEALED).scalar_one())
    closes = closed_days.closes(tx)
    expected = _closed_heads(closes)
    for partition, head in (published or {}).items():
        expected.setdefault(partition, {})[head[0]] = (head[1], "what was published")
    for partition in range(CHAINS):
        damage = _chain_damage(partition, expected.get(partition, {}), found, tx)
        found.damages += [] if damage is None else [damage]
    found.damages += _misplaced(tx)
    stray = tx.execute(WITHOUT_BATCH).scalar_one()
    if stray is not None:
        found.damages.append(f"transfer {stray} was inserted: it belongs to no batch")
    for row in tx.execute(WITHOUT_TRANSFER):
        found.damages.append(f"entry {row.transfer_id}/{row.ordinal} was inserted: it belongs to no transfer")
    found.damages += closed_days.damages(closes, tx)
    return found


def _misplaced(tx: Connection) -> Iterator[str]:
    for row in tx.execute(MISPLACED, {"chains": CHAINS, "id_max": BATCH_ID_MAX}):
        place = "without a place" if row.position is None else f"at position {row.position}"
        chain = "in a chain" if row.partition is None else f"in chain {row.partition}"
        yield f"batch {row.id} was inserted or moved: it is {place} {chain}, where its number cannot be"
    for row in tx.execute(LEFT_OUT, {"chains": CHAINS}):
        yield f"batch {row.id} was inserted, or batch {row.newest} of its chain was: only that one has been sealed"


def _closed_heads(closes: Sequence[Close]) -> dict[int, dict[int, tuple[bytes, str]]]:
    """Return the hashes that closed days name, by partition and position."""
    found: dict[int, dict[int, tuple[bytes, str]]] = {}
    for close in closes:
        for partition, (position, hash_) in (close.heads or {}).items():
            found.setdefault(partition, {})[position] = (hash_, close.name)
    return found


def _chain_damage(
    partition: int, expected: Mapping[int, tuple[bytes, str]], found: Verification, tx: Connection
) -> str | None:
    position, previous = 0, GENESIS
    for seal, content in _sealed_batches(partition, tx):
        position += 1
        if seal.position < position:
            return f"batch {seal.batch_id} was inserted: chain {partition} has another one at position {seal.position}"
        if seal.position != position:
            return f"the batch at position {position} of chain {partition} was removed"
        if not seal.follows(previous):
            return f"the seal of batch {seal.batch_id} was changed"
        if content != seal.content_digest:
            damage = first_damage(seal, rows_of([seal.batch_id], tx)[seal.batch_id])
            return f"the seal of batch {seal.batch_id} was changed" if damage is None else str(damage)
        if position in expected and expected[position][0] != seal.chain_hash:
            return f"batch {seal.batch_id} or one before it was sealed anew: it differs from {expected[position][1]}"
        previous = seal.chain_hash
        found.transfers += seal.transfer_count
        found.entries += seal.entry_count
    missing = min((each for each in expected if each > position), default=None)
    if missing is not None:
        return f"the batch at position {position + 1} of chain {partition} was removed, as {expected[missing][1]} shows"
    return None


def _sealed_batches(partition: int, tx: Connection) -> Iterator[tuple[Seal, bytes]]:
    """Yield the seals of a chain in their order, each with the digest of the rows that stand there now."""
    after = {"position": 0, "id": BATCH_ID_MAX}
    limits = {"partition": partition, "id_max": BATCH_ID_MAX, "count": PAGE_BATCHES}
    while page := tx.execute(SEALS, limits | after).all():
        printed = content_of([row.batch_id for row in page], tx)
        digests = {block: content_digest(transfers, entries) for block, transfers, entries in printed}
        for row in page:
            yield Seal(**row._mapping), digests[row.batch_id]
        after = {"position": page[-1].position, "id": page[-1].batch_id}
