"""The hash chain: what a seal covers, and how a row that differs from its seal is found.

A batch is sealed with a digest of all its rows, a digest of each, and a hash over these and the hash before. To hide a
changed row, every hash after it has to be changed, and the roots of closed days, which are kept outside.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ledger.model.rows import BLOCK_BITS

CHAINS = 4
"""Partitions of the chain, so that they are sealed and verified in parallel."""
BATCH_ID_MAX = (1 << 63 - BLOCK_BITS) - 1
"""The ids of its transfers have 64 bits."""
DIGEST_LENGTH = 16
"""Of one row: enough that no other row with the same digest can be made."""
GENESIS = bytes(32)
"""What the first batch of a chain follows."""
HEAD = re.compile(r"([0-9]+):([0-9]+):([0-9a-f]{64})")
_HEAD = struct.Struct("!hqqh")
_COUNT = struct.Struct("!H")


@dataclass(slots=True, kw_only=True)
class BatchRows:
    """The rows of a batch as PostgreSQL prints them: transfers by id, entries by transfer and ordinal, in order."""

    transfers: dict[int, str] = field(default_factory=dict)
    entries: dict[int, dict[int, str]] = field(default_factory=dict)

    @property
    def content_digest(self) -> bytes:
        """Return the digest of all rows."""
        entries = (row for each in self.entries.values() for row in each.values())
        return content_digest("\n".join(self.transfers.values()), "\n".join(entries))

    @property
    def row_digests(self) -> bytes:
        """Return for each transfer its digest, the number of its entries, and their digests."""
        digests: list[bytes] = []
        for id_, row in self.transfers.items():
            entries = self.entries.get(id_, {})
            digests += [digest_of(row), _COUNT.pack(len(entries)), *map(digest_of, entries.values())]
        return b"".join(digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The seal of a batch at its position in a chain."""

    batch_id: int
    partition: int
    position: int
    transfer_count: int
    content_digest: bytes
    row_digests: bytes
    chain_hash: bytes

    @property
    def entry_count(self) -> int:
        """The number of entries that it covers."""
        return (len(self.row_digests) - self.transfer_count * (DIGEST_LENGTH + _COUNT.size)) // DIGEST_LENGTH

    def follows(self, previous: bytes) -> bool:
        """Return whether its hash is the one that follows ``previous``."""
        return self.chain_hash == chain_hash(previous, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """The first row that is not as it was sealed. ``ordinal`` is None where it is a transfer's own row."""

    what: str
    transfer_id: int
    ordinal: int | None = None

    def __str__(self) -> str:
        row = f"transfer {self.transfer_id}" if self.ordinal is None else f"entry {self.transfer_id}/{self.ordinal}"
        return f"{row} was {self.what}"


def digest_of(row: str) -> bytes:
    """Return the digest of one row."""
    return hashlib.sha256(row.encode()).digest()[:DIGEST_LENGTH]


def content_digest(transfers: str, entries: str) -> bytes:
    """Return the digest of a batch's rows: those of transfers with newlines between, then those of entries."""
    return hashlib.sha256(
        hashlib.sha256(transfers.encode()).digest() + hashlib.sha256(entries.encode()).digest()
    ).digest()


def chain_hash(previous: bytes, seal: Seal) -> bytes:
    """Return the hash of a seal. Every part has a fixed length or is a digest, so no two seals have the same parts."""
    head = _HEAD.pack(seal.partition, seal.position, seal.batch_id, seal.transfer_count)
    return hashlib.sha256(previous + head + seal.content_digest + hashlib.sha256(seal.row_digests).digest()).digest()


def sealed(batch_id: int, partition: int, position: int, rows: BatchRows, previous: bytes) -> Seal:
    """Return the seal of a batch behind ``previous``."""
    unhashed = Seal(
        batch_id=batch_id,
        partition=partition,
        position=position,
        transfer_count=len(rows.transfers),
        content_digest=rows.content_digest,
        row_digests=rows.row_digests,
        chain_hash=b"",
    )
    return replace(unhashed, chain_hash=chain_hash(previous, unhashed))


def first_damage(seal: Seal, rows: BatchRows) -> Damage | None:
    """Return the first row that differs from the seal, in the order of transfers and their entries.

    None where no row does, or where the seal itself cannot be read to its end.
    """
    first = seal.batch_id << BLOCK_BITS
    listed = _listed(seal.row_digests)
    if listed is None:
        return None
    for id_, (digest, entries) in enumerate(listed, first):
        stored = rows.transfers.get(id_)
        if stored is None:
            return Damage(what="removed", transfer_id=id_)
        if digest_of(stored) != digest:
            return Damage(what="changed", transfer_id=id_)
        damage = _entry_damage(id_, entries, rows.entries.get(id_, {}))
        if damage:
            return damage
    surplus = min((id_ for id_ in (*rows.transfers, *rows.entries) if id_ >= first + len(listed)), default=None)
    if surplus is None:
        return None
    ordinal = None if surplus in rows.transfers else min(rows.entries[surplus])
    return Damage(what="inserted", transfer_id=surplus, ordinal=ordinal)


def _entry_damage(transfer_id: int, digests: Sequence[bytes], stored: Mapping[int, str]) -> Damage | None:
    for ordinal, digest in enumerate(digests):
        row = stored.get(ordinal)
        if row is None:
            return Damage(what="removed", transfer_id=transfer_id, ordinal=ordinal)
        if digest_of(row) != digest:
            return Damage(what="changed", transfer_id=transfer_id, ordinal=ordinal)
    surplus = min((ordinal for ordinal in stored if not 0 <= ordinal < len(digests)), default=None)
    return None if surplus is None else Damage(what="inserted", transfer_id=transfer_id, ordinal=surplus)


def _listed(row_digests: bytes) -> list[tuple[bytes, list[bytes]]] | None:
    """Return for each transfer its digest and those of its entries; None where they end too early."""
    listed: list[tuple[bytes, list[bytes]]] = []
    position = 0
    while position < len(row_digests):
        if position + DIGEST_LENGTH + _COUNT.size > len(row_digests):
            return None
        digest = row_digests[position : position + DIGEST_LENGTH]
        position += DIGEST_LENGTH
        (count,) = _COUNT.unpack_from(row_digests, position)
        position += _COUNT.size
        end = position + count * DIGEST_LENGTH
        if end > len(row_digests):
            return None
        entries = [row_digests[start : start + DIGEST_LENGTH] for start in range(position, end, DIGEST_LENGTH)]
        listed.append((digest, entries))
        position = end
    return listed


def parsed_heads(heads: str) -> dict[int, tuple[int, bytes]]:
    """Return heads from their text: ``partition:position:hash``, one a chain, with spaces between. Raises ValueError.

    A chain has no head before its first batch is sealed.
    """
    found: dict[int, tuple[int, bytes]] = {}
    for head in heads.split():
        matched = HEAD.fullmatch(head)
        if matched is None:
            raise ValueError(f"{head!r} is no head: partition:position:hash, the hash with 64 hexadecimal digits.")
        partition, position = int(matched[1]), int(matched[2])
        if partition >= CHAINS or position < 1 or partition in found:
            raise ValueError(f"{head!r} is no head: chains are 0 to {CHAINS - 1}, each once, and positions begin at 1.")
        found[partition] = position, bytes.fromhex(matched[3])
    return found
