-- TRY_LOCK
SELECT ordinal
FROM unnest(CAST($1 AS bigint[])) WITH ORDINALITY AS row (lock, ordinal)
WHERE pg_try_advisory_xact_lock(lock);

-- USED_KEYS
SELECT digest, fingerprint, payment_id, operation_id
FROM idempotency_keys
WHERE digest = ANY(CAST($1 AS bytea[]));

-- CLAIM_KEY
INSERT INTO idempotency_keys (digest, fingerprint, payment_id, operation_id, created_at) VALUES ($1, $2, $3, $4, $5);
