-- UNMATCHED
SELECT id, provider, source, received_at, outcome, key, provider_id, reference, body, matches, closed_at, closed_by, closed_reason
FROM evidence
WHERE match_at IS NOT NULL
ORDER BY received_at, id
LIMIT $1;

-- CLOSED
SELECT id, provider, source, received_at, outcome, key, provider_id, reference, body, matches, closed_at, closed_by, closed_reason
FROM evidence
WHERE closed_at IS NOT NULL
ORDER BY closed_at DESC, id
LIMIT $1;

-- CLOSE
UPDATE evidence
SET match_at = NULL, closed_at = $1, closed_by = $2, closed_reason = $3
WHERE id = ANY(CAST($4 AS text[])) AND match_at IS NOT NULL
RETURNING id;
