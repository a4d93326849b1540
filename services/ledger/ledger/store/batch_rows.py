"""Reads the rows of batches as PostgreSQL prints them, which is what seals cover.

COPY prints every column of every row in one form: text, UTC, ISO dates. Nothing of it is parsed but the ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

from sqlalchemy import Connection, text

from ledger.model.chain import BatchRows
from ledger.model.rows import block_of

AS_SEALED = text("SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'")
COPY_TRANSFERS: LiteralString = """
    COPY (
        SELECT transfers.id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late,
               entry_count, saga_id, step, message_id
        FROM unnest(CAST(%s AS bigint[])) AS block
        JOIN transfers ON transfers.id >= block << 10 AND transfers.id < (block + 1) << 10
        ORDER BY transfers.id
    ) TO STDOUT
"""
COPY_ENTRIES: LiteralString = """
    COPY (
        SELECT transfer_id, ordinal, account_id, lane, amount_minor, is_held, booked_at, effective_at, debits_after,
               credits_after
        FROM unnest(CAST(%s AS bigint[])) AS block
        JOIN transfer_entries ON transfer_id >= block << 10 AND transfer_id < (block + 1) << 10
        ORDER BY transfer_id, ordinal
    ) TO STDOUT
"""


def rows_of(blocks: Sequence[int], tx: Connection) -> dict[int, BatchRows]:
    """Return the rows of each of these batches; a batch that has none is there as well."""
    found = {block: BatchRows() for block in blocks}
    tx.execute(AS_SEALED)
    for row in _printed(COPY_TRANSFERS, blocks, tx):
        id_ = int(row[: row.index(b"\t")])
        found[block_of(id_)].transfers[id_] = row
    for row in _printed(COPY_ENTRIES, blocks, tx):
        transfer_id, ordinal, _ = row.split(b"\t", 2)
        id_ = int(transfer_id)
        found[block_of(id_)].entries.setdefault(id_, {})[int(ordinal)] = row
    return found


def _printed(copy: LiteralString, blocks: Sequence[int], tx: Connection) -> Iterator[bytes]:
    connection: Any = tx.connection.driver_connection
    with connection.cursor() as cursor, cursor.copy(copy, (list(blocks),)) as rows:
        for row in rows:
            yield bytes(row)
