-- FIND
SELECT id, kind, value, reason, added_by, added_at, removed_by, removed_at, removal_reason
FROM blocks
WHERE (CAST($1 AS text) IS NULL OR kind = $1) AND ($2 OR removed_at IS NULL) AND id < $3
ORDER BY id DESC
LIMIT $4;

-- ADD
INSERT INTO blocks (kind, value, reason, added_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (kind, value)
WHERE removed_at IS NULL DO NOTHING
RETURNING id;

-- REMOVE
UPDATE blocks
SET removed_by = $1, removed_at = now(), removal_reason = $2
WHERE kind = $3 AND value = $4 AND removed_at IS NULL
RETURNING id;

-- BY_ID
SELECT id, kind, value, reason, added_by, added_at, removed_by, removed_at, removal_reason
FROM blocks
WHERE id = $1;

-- ACTIVE
SELECT id, kind, value, reason, added_by, added_at, removed_by, removed_at, removal_reason
FROM blocks
WHERE kind = $1 AND value = $2 AND removed_at IS NULL;

-- DECISION
SELECT saga_id, payment_id, merchant_id, is_live, currency, amount_minor, submitted_at, state, reason, detail, score, signals, rules_version
FROM validations
WHERE payment_id = $1;
