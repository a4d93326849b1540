-- LOAD
SELECT saga_id, step, state, attempt, deadline_at, closing
FROM effects
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step FOR UPDATE;

-- INSERT
INSERT INTO effects (saga_id, step, state, attempt, deadline_at, closing, updated_at)
SELECT saga_id, step, state, attempt, deadline_at, closing, $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS smallint[]), CAST($6 AS timestamptz[]), CAST($7 AS boolean[])) AS row (saga_id, step, state, attempt, deadline_at, closing);

-- UPDATE
UPDATE effects
SET state = row.state, attempt = row.attempt, deadline_at = row.deadline_at, closing = row.closing, updated_at = $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS smallint[]), CAST($6 AS timestamptz[]), CAST($7 AS boolean[])) AS row (saga_id, step, state, attempt, deadline_at, closing)
WHERE effects.saga_id = row.saga_id AND effects.step = row.step;
