-- AS_SEALED
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, YMD';

-- ROWS
SELECT block, transfer_ids, transfer_rows, entry_transfer_ids, ordinals, entry_rows
FROM unnest(CAST($1 AS bigint[])) AS block CROSS JOIN LATERAL (SELECT coalesce(array_agg(id
ORDER BY id), '{}') AS transfer_ids, coalesce(array_agg(CAST(ROW(id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late, entry_count, saga_id, step, message_id, payment_id, payment_version, payment_status) AS text)
ORDER BY id), '{}') AS transfer_rows
FROM transfers
WHERE id >= block << 10 AND id < (block + 1) << 10) AS printed_transfers CROSS JOIN LATERAL (SELECT coalesce(array_agg(transfer_id
ORDER BY transfer_id, ordinal), '{}') AS entry_transfer_ids, coalesce(array_agg(ordinal
ORDER BY transfer_id, ordinal), '{}') AS ordinals, coalesce(array_agg(CAST(ROW(transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at, effective_at, debits_after, credits_after) AS text)
ORDER BY transfer_id, ordinal), '{}') AS entry_rows
FROM transfer_entries
WHERE transfer_id >= block << 10 AND transfer_id < (block + 1) << 10) AS printed_entries;

-- CONTENT
SELECT block, transfer_rows, entry_rows
FROM unnest(CAST($1 AS bigint[])) AS block CROSS JOIN LATERAL (SELECT coalesce(string_agg(CAST(ROW(id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late, entry_count, saga_id, step, message_id, payment_id, payment_version, payment_status) AS text), chr(10)
ORDER BY id), '') AS transfer_rows
FROM transfers
WHERE id >= block << 10 AND id < (block + 1) << 10) AS printed_transfers CROSS JOIN LATERAL (SELECT coalesce(string_agg(CAST(ROW(transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at, effective_at, debits_after, credits_after) AS text), chr(10)
ORDER BY transfer_id, ordinal), '') AS entry_rows
FROM transfer_entries
WHERE transfer_id >= block << 10 AND transfer_id < (block + 1) << 10) AS printed_entries;
