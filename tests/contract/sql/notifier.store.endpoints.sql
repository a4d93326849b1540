-- LOCK_OWNER
SELECT pg_advisory_xact_lock(hashtextextended('endpoints ' || CAST($1 AS text) || ' ' || CAST($2 AS text), 0));

-- COUNT
SELECT count(*)
FROM endpoints
WHERE merchant_id = $1 AND is_live = $2 AND state <> 'DELETED';

-- FIND_URL
SELECT endpoint_id
FROM endpoints
WHERE merchant_id = $1 AND is_live = $2 AND state <> 'DELETED' AND url = $3 AND endpoint_id <> $4;

-- INSERT
INSERT INTO endpoints (endpoint_id, merchant_id, is_live, url, description, types, state, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, 'ENABLED', $7, $7)
RETURNING endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at, failing_since, slow_until, created_at, updated_at;

-- FIND
SELECT endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at, failing_since, slow_until, created_at, updated_at
FROM endpoints
WHERE merchant_id = $1 AND is_live = $2 AND state <> 'DELETED' AND endpoint_id = $3;

-- LOCK
SELECT endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at, failing_since, slow_until, created_at, updated_at
FROM endpoints
WHERE merchant_id = $1 AND is_live = $2 AND state <> 'DELETED' AND endpoint_id = $3 FOR UPDATE;

-- LIST
SELECT endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at, failing_since, slow_until, created_at, updated_at
FROM endpoints
WHERE merchant_id = $1 AND is_live = $2 AND state <> 'DELETED' AND endpoint_id > $3
ORDER BY endpoint_id
LIMIT $4;

-- CHANGE
UPDATE endpoints
SET url = coalesce($1, url), description = coalesce($2, description), types = coalesce(CAST($3 AS text[]), types), updated_at = $4
WHERE merchant_id = $5 AND is_live = $6 AND state <> 'DELETED' AND endpoint_id = $7
RETURNING endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at, failing_since, slow_until, created_at, updated_at;

-- ENABLE
UPDATE endpoints
SET state = 'ENABLED', disabled_because = NULL, disabled_at = NULL, failing_since = NULL, slow_until = NULL, updated_at = $1
WHERE merchant_id = $2 AND is_live = $3 AND state <> 'DELETED' AND endpoint_id = $4
RETURNING endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at, failing_since, slow_until, created_at, updated_at;

-- DISABLE
UPDATE endpoints
SET state = 'DISABLED', disabled_because = coalesce(disabled_because, CAST($1 AS text)), disabled_at = coalesce(disabled_at, $2), updated_at = $2
WHERE merchant_id = $3 AND is_live = $4 AND state <> 'DELETED' AND endpoint_id = $5
RETURNING endpoint_id, merchant_id, is_live, url, description, types, state, disabled_because, disabled_at, failing_since, slow_until, created_at, updated_at;

-- DELETE
UPDATE endpoints
SET state = 'DELETED', updated_at = $1
WHERE merchant_id = $2 AND is_live = $3 AND state <> 'DELETED' AND endpoint_id = $4;

-- DELETE_SECRETS
DELETE
FROM endpoint_secrets
WHERE endpoint_id = $1;

-- EXPIRE_SECRETS
UPDATE endpoint_secrets
SET expires_at = least(coalesce(expires_at, $1), $1)
WHERE endpoint_id = $2;

-- ADD_SECRET
INSERT INTO endpoint_secrets (endpoint_id, sealed, created_at) VALUES ($1, $2, $3);

-- KEEP_NEWEST
DELETE
FROM endpoint_secrets
WHERE endpoint_id = $1 AND (expires_at <= $2 OR number NOT IN (SELECT number
FROM endpoint_secrets
WHERE endpoint_id = $1
ORDER BY number DESC
LIMIT $3));
