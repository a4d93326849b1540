-- SAVE
INSERT INTO divergences (divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason)
SELECT divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS integer[]), CAST($11 AS integer[]), CAST($12 AS timestamptz[]), CAST($13 AS timestamptz[]), CAST($14 AS text[]), CAST($15 AS text[])) AS row (divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason)
ON CONFLICT (divergence_id)
DO UPDATE
SET account = excluded.account, item = excluded.item, movement = excluded.movement, key = excluded.key, kind = excluded.kind, payment_id = excluded.payment_id, detail = excluded.detail, state = excluded.state, first_run = excluded.first_run, last_run = excluded.last_run, opened_at = excluded.opened_at, closed_at = excluded.closed_at, closed_by = excluded.closed_by, reason = excluded.reason;

-- ADD_CHANGES
INSERT INTO run_changes (run, divergence_id, change, kind_before, kind_after)
SELECT $1, divergence_id, change, kind_before, kind_after
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[])) AS row (divergence_id, change, kind_before, kind_after);

-- KNOWN
SELECT divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason
FROM divergences
WHERE account = $1 AND state = 'OPEN' AND (CAST($2 AS boolean) OR item IN (SELECT item
FROM run_scope
WHERE run = $3)) UNION
SELECT divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason
FROM divergences
WHERE divergence_id = ANY(CAST($4 AS text[]))
ORDER BY divergence_id;

-- FIND
SELECT divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason
FROM divergences
WHERE divergence_id = $1;

-- CHANGES_OF
SELECT run_changes.divergence_id, change, kind_before, kind_after, payment_id, account, detail
FROM run_changes JOIN divergences USING (divergence_id)
WHERE run = $1
ORDER BY divergence_id;

-- EXPLAIN
UPDATE divergences
SET state = 'EXPLAINED', closed_at = $1, closed_by = $2, reason = $3
WHERE divergence_id = $4 AND state = 'OPEN'
RETURNING divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason;

-- LIST
SELECT divergence_id, account, item, movement, key, kind, payment_id, detail, state, first_run, last_run, opened_at, closed_at, closed_by, reason
FROM divergences
WHERE divergence_id > $1 AND (CAST($2 AS text) IS NULL OR state = $2) AND (CAST($3 AS text) IS NULL OR kind = $3) AND (CAST($4 AS text) IS NULL OR account = $4) AND (CAST($5 AS bigint) IS NULL OR payment_id = $5)
ORDER BY divergence_id
LIMIT $6;
