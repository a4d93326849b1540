-- SEALS
SELECT id AS batch_id, partition, position, transfer_count, content_digest, row_digests, chain_hash
FROM batches
WHERE partition = $1 AND position > $2
ORDER BY position
LIMIT $3;

-- WITHOUT_BATCH
SELECT min(transfers.id)
FROM transfers LEFT JOIN batches ON batches.id = transfers.id >> 10
WHERE batches.id IS NULL;

-- WITHOUT_TRANSFER
SELECT transfer_id, ordinal
FROM transfer_entries LEFT JOIN transfers ON transfers.id = transfer_id
WHERE transfers.id IS NULL
ORDER BY transfer_id, ordinal
LIMIT 1;

-- CLOSED_HEADS
SELECT chart, day, heads
FROM day_closes
ORDER BY closed_at, chart;

-- COUNT_UNSEALED
SELECT count(*)
FROM batches
WHERE position IS NULL;
