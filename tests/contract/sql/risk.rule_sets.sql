-- ACTIVE
SELECT version, EXISTS (SELECT
FROM rule_sets
WHERE version = $1) AS is_own_stored
FROM rule_sets
ORDER BY ordinal DESC
LIMIT 1;

-- DOCUMENT
SELECT document
FROM rule_sets
WHERE version = $1;

-- STORE
INSERT INTO rule_sets (version, document, reason, stored_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (version) DO NOTHING
RETURNING version;

-- HISTORY
SELECT version, reason, stored_by, stored_at
FROM rule_sets
ORDER BY ordinal DESC
LIMIT $1;
