-- STORE
INSERT INTO evidence (id, provider, source, received_at, headers, body, outcome, key, provider_id, reference, detail, saga_id, step, number, partition, match_at, due_at, matches)
SELECT id, provider, source, received_at, headers, body, outcome, key, provider_id, reference, detail, saga_id, step, number, partition, match_at, due_at, 0
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS timestamptz[]), CAST($5 AS text[]), CAST($6 AS bytea[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS smallint[]), CAST($15 AS smallint[]), CAST($16 AS timestamptz[]), CAST($17 AS timestamptz[])) AS row (id, provider, source, received_at, headers, body, outcome, key, provider_id, reference, detail, saga_id, step, number, partition, match_at, due_at)
ON CONFLICT (id) DO NOTHING;

-- ORPHANS
SELECT id, provider, received_at, headers, body, outcome, key, provider_id, reference, detail, matches
FROM evidence
WHERE match_at <= $1
ORDER BY match_at
LIMIT $2
FOR UPDATE SKIP LOCKED;

-- MATCH
UPDATE evidence
SET outcome = row.outcome, key = row.key, provider_id = row.provider_id, reference = row.reference, detail = row.detail, saga_id = row.saga_id, step = row.step, number = row.number, partition = row.partition, matches = row.matches, match_at = row.match_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS smallint[]), CAST($10 AS smallint[]), CAST($11 AS smallint[]), CAST($12 AS timestamptz[])) AS row (id, outcome, key, provider_id, reference, detail, saga_id, step, number, partition, matches, match_at)
WHERE evidence.id = row.id;

-- WAITING
SELECT id, saga_id, step, number, outcome, source, reference, provider_id, detail
FROM evidence
WHERE handled_at IS NULL AND partition = ANY(CAST($1 AS smallint[])) AND due_at <= $2
ORDER BY due_at, id
LIMIT $3;

-- LOCK
SELECT id, saga_id, step, number, outcome, source, reference, provider_id, detail
FROM evidence
WHERE id = ANY(CAST($1 AS text[])) AND handled_at IS NULL
ORDER BY id FOR UPDATE;

-- HANDLE
UPDATE evidence
SET handled_at = $1, fate = row.fate
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[])) AS row (id, fate)
WHERE evidence.id = row.id;

-- UNMATCH
UPDATE evidence
SET saga_id = NULL, step = NULL, number = NULL, partition = NULL, match_at = $1
WHERE id = ANY(CAST($2 AS text[])) AND handled_at IS NULL;

-- POSTPONE
UPDATE evidence
SET due_at = $1
WHERE id = ANY(CAST($2 AS text[])) AND handled_at IS NULL;
