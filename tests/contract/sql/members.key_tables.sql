-- TRY_LOCK
SELECT ordinal
FROM unnest(CAST($1 AS bigint[])) WITH ORDINALITY AS row (lock, ordinal)
WHERE pg_try_advisory_xact_lock(lock);

-- USED
SELECT digest, body, result_id, created_at
FROM keys
WHERE digest = ANY(CAST($1 AS bytea[]));

-- CLAIM
INSERT INTO keys (digest, body, result_id, created_at)
SELECT digest, CAST(body AS jsonb), result_id, created_at
FROM unnest(CAST($1 AS bytea[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS timestamptz[])) AS row (digest, body, result_id, created_at);
