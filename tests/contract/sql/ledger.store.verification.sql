-- SEALS
SELECT id AS batch_id, partition, position, transfer_count, coalesce(content_digest, '') AS content_digest, coalesce(row_digests, '') AS row_digests, coalesce(chain_hash, '') AS chain_hash
FROM batches
WHERE partition = $1 AND (position, id) > ($2, $3) AND id >= 1 AND id <= $4
ORDER BY position, id
LIMIT $5;

-- MISPLACED
SELECT id, partition, position
FROM batches
WHERE id < 1 OR id > $1 OR (position IS NULL) <> (partition IS NULL) OR position < 1 OR partition <> mod(id, $2)
ORDER BY id;

-- LEFT_OUT
SELECT unsealed.id, newest
FROM batches AS unsealed JOIN (SELECT mod(id, $1) AS chain, max(id) AS newest
FROM batches
WHERE position IS NOT NULL AND (sealed_at IS NULL OR sealed_at < now() - interval '1 hour') GROUP BY chain) AS long_sealed ON chain = mod(unsealed.id, $1) AND newest > unsealed.id
WHERE position IS NULL AND unsealed.id >= 1
ORDER BY unsealed.id;

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

-- COUNT_UNSEALED
SELECT count(*)
FROM batches
WHERE position IS NULL;
