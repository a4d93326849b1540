"""Reads the rows of batches as PostgreSQL prints them, which is what seals cover.

A row is printed as a record of its columns, in UTC and with ISO dates, so that one row has one form. Nothing of it is
parsed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text

from ledger.model.chain import BatchRows

AS_SEALED = text("SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'")
TRANSFER = """CAST(ROW(
    id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late, entry_count, saga_id, step,
    message_id, payment_id, payment_version, payment_status
) AS text)"""
ENTRY = """CAST(ROW(
    transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at, effective_at, debits_after, credits_after
) AS text)"""
ROWS = text(f"""
    SELECT block, transfer_ids, transfer_rows, entry_transfer_ids, ordinals, entry_rows
    FROM unnest(CAST(:blocks AS bigint[])) AS block
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(id ORDER BY id), '{{}}') AS transfer_ids,
               coalesce(array_agg({TRANSFER} ORDER BY id), '{{}}') AS transfer_rows
        FROM transfers WHERE id >= block << 10 AND id < (block + 1) << 10
    ) AS printed_transfers
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(transfer_id ORDER BY transfer_id, ordinal), '{{}}') AS entry_transfer_ids,
               coalesce(array_agg(ordinal ORDER BY transfer_id, ordinal), '{{}}') AS ordinals,
               coalesce(array_agg({ENTRY} ORDER BY transfer_id, ordinal), '{{}}') AS entry_rows
        FROM transfer_entries WHERE transfer_id >= block << 10 AND transfer_id < (block + 1) << 10
    ) AS printed_entries
""")
CONTENT = text(f"""
    SELECT block, transfer_rows, entry_rows
    FROM unnest(CAST(:blocks AS bigint[])) AS block
    CROSS JOIN LATERAL (
        SELECT coalesce(string_agg({TRANSFER}, chr(10) ORDER BY id), '') AS transfer_rows
        FROM transfers WHERE id >= block << 10 AND id < (block + 1) << 10
    ) AS printed_transfers
    CROSS JOIN LATERAL (
        SELECT coalesce(string_agg({ENTRY}, chr(10) ORDER BY transfer_id, ordinal), '') AS entry_rows
        FROM transfer_entries WHERE transfer_id >= block << 10 AND transfer_id < (block + 1) << 10
    ) AS printed_entries
""")
"""The same rows as two texts a batch, which is much faster where no row has to be named."""


def rows_of(blocks: Sequence[int], tx: Connection) -> dict[int, BatchRows]:
    """Return the rows of each of these batches; a batch that has none is there as well."""
    tx.execute(AS_SEALED)
    found: dict[int, BatchRows] = {}
    for row in tx.execute(ROWS, {"blocks": list(blocks)}):
        rows = found[row.block] = BatchRows(transfers=dict(zip(row.transfer_ids, row.transfer_rows, strict=True)))
        for id_, ordinal, printed in zip(row.entry_transfer_ids, row.ordinals, row.entry_rows, strict=True):
            rows.entries.setdefault(id_, {})[ordinal] = printed
    return found


def content_of(blocks: Sequence[int], tx: Connection) -> Iterator[tuple[int, str, str]]:
    """Yield each of these batches with the text of its transfers and the text of its entries."""
    tx.execute(AS_SEALED)
    for row in tx.execute(CONTENT, {"blocks": list(blocks)}):
        yield row.block, row.transfer_rows, row.entry_rows
