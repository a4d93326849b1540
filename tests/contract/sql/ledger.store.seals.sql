-- LOCK_CHAIN
SELECT pg_advisory_xact_lock($1);

-- HEAD
SELECT position, chain_hash
FROM batches
WHERE partition = $1 AND position IS NOT NULL
ORDER BY position DESC
LIMIT 1;

-- UNSEALED
SELECT id, transfer_count
FROM batches
WHERE position IS NULL AND mod(id, $1) = $2
ORDER BY id
LIMIT $3;

-- ADD_SEALS
UPDATE batches
SET partition = row.partition, position = row.position, content_digest = row.content_digest, row_digests = row.row_digests, chain_hash = row.chain_hash, sealed_at = $1
FROM unnest(CAST($2 AS bigint[]), CAST($3 AS smallint[]), CAST($4 AS bigint[]), CAST($5 AS bytea[]), CAST($6 AS bytea[]), CAST($7 AS bytea[])) AS row (id, partition, position, content_digest, row_digests, chain_hash)
WHERE batches.id = row.id AND batches.position IS NULL;
