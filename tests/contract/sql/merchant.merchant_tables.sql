-- MERCHANTS
SELECT merchant_id, saga_id, name, currencies, basis_points, fixed_minor, amount_max_minor, state, failure_reason, registered_at, onboarded_at, closed_at
FROM merchants
WHERE merchant_id = ANY(CAST($1 AS text[]));

-- INSERT
INSERT INTO merchants (merchant_id, saga_id, name, currencies, basis_points, fixed_minor, amount_max_minor, state, registered_at) VALUES ($1, $2, $3, $4::JSONB, $5, $6::JSONB, $7::JSONB, 'REGISTERED', $8)
ON CONFLICT (merchant_id) DO NOTHING;

-- PAGE
SELECT merchant_id, saga_id, name, currencies, basis_points, fixed_minor, amount_max_minor, state, failure_reason, registered_at, onboarded_at, closed_at
FROM merchants
WHERE merchant_id > $1
ORDER BY merchant_id
LIMIT $2;

-- ONBOARD
UPDATE merchants
SET state = CASE WHEN state = 'CLOSED' THEN state ELSE 'ACTIVE' END, onboarded_at = $1
WHERE saga_id = $2 AND onboarded_at IS NULL;

-- FAIL
UPDATE merchants
SET state = 'FAILED', failure_reason = $1
WHERE saga_id = $2 AND state = 'REGISTERED';

-- CLOSE
UPDATE merchants
SET state = 'CLOSED', closed_at = $1
WHERE merchant_id = $2 AND closed_at IS NULL;

-- LOCK
SELECT merchant_id
FROM merchants
WHERE merchant_id = $1 FOR UPDATE;

-- INSERT_KEY
INSERT INTO api_keys (key_id, merchant_id, is_live, digest, hint, created_at) VALUES ($1, $2, $3, $4, $5, $6);

-- VALID_KEY
SELECT key_id, merchant_id, is_live, expires_at
FROM api_keys
WHERE digest = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- KEYS
SELECT key_id, merchant_id, is_live, hint, created_at, expires_at, revoked_at
FROM api_keys
WHERE merchant_id = $1
ORDER BY key_id;

-- EXPIRE_KEY
UPDATE api_keys
SET expires_at = least(expires_at, $1)
WHERE key_id = $2 AND merchant_id = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- REVOKE_KEY
UPDATE api_keys
SET revoked_at = $1
WHERE key_id = $2 AND merchant_id = $3 AND revoked_at IS NULL;
