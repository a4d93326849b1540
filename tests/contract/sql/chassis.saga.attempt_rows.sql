-- LOAD_STEPS
SELECT saga_id, step, topic, partition, headers, payload, query_at, queries, queried_since, redrive
FROM awaited_steps
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step FOR UPDATE;

-- LOAD
SELECT saga_id, step, number, key, state, cancel, sends, first_sent_at, last_sent_at, was_not_found, is_contradicted, provider_id, detail
FROM attempts
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step, number FOR UPDATE;

-- SAVE_STEPS
INSERT INTO awaited_steps (saga_id, step, topic, partition, headers, payload, query_at, queries, queried_since, redrive)
SELECT saga_id, step, topic, partition, headers, payload, query_at, queries, queried_since, redrive
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS smallint[]), CAST($5 AS text[]), CAST($6 AS bytea[]), CAST($7 AS timestamptz[]), CAST($8 AS smallint[]), CAST($9 AS timestamptz[]), CAST($10 AS smallint[])) AS row (saga_id, step, topic, partition, headers, payload, query_at, queries, queried_since, redrive)
ON CONFLICT (saga_id, step)
DO UPDATE
SET query_at = excluded.query_at, queries = excluded.queries, queried_since = excluded.queried_since, redrive = excluded.redrive;

-- SAVE
INSERT INTO attempts (saga_id, step, number, key, state, cancel, sends, first_sent_at, last_sent_at, was_not_found, is_contradicted, provider_id, detail)
SELECT saga_id, step, number, key, state, cancel, sends, first_sent_at, last_sent_at, was_not_found, is_contradicted, provider_id, detail
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS smallint[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS smallint[]), CAST($8 AS timestamptz[]), CAST($9 AS timestamptz[]), CAST($10 AS boolean[]), CAST($11 AS boolean[]), CAST($12 AS text[]), CAST($13 AS text[])) AS row (saga_id, step, number, key, state, cancel, sends, first_sent_at, last_sent_at, was_not_found, is_contradicted, provider_id, detail)
ON CONFLICT (saga_id, step, number)
DO UPDATE
SET state = excluded.state, cancel = excluded.cancel, sends = excluded.sends, last_sent_at = excluded.last_sent_at, was_not_found = excluded.was_not_found, is_contradicted = excluded.is_contradicted, provider_id = excluded.provider_id, detail = excluded.detail;

-- DUE
SELECT due.saga_id, due.step
FROM unnest(CAST($1 AS smallint[])) AS own (partition) CROSS JOIN LATERAL (SELECT saga_id, step, query_at
FROM awaited_steps
WHERE awaited_steps.partition = own.partition AND query_at <= $2
ORDER BY query_at
LIMIT $3) AS due
ORDER BY due.query_at
LIMIT $3;

-- OPEN_AFTER
SELECT effects.saga_id, effects.step
FROM effects JOIN awaited_steps ON awaited_steps.saga_id = effects.saga_id AND awaited_steps.step = effects.step
WHERE effects.state IN ('STARTED', 'SENT', 'UNSURE') AND (effects.saga_id, effects.step) > ($1, $2)
ORDER BY effects.saga_id, effects.step
LIMIT $3;

-- WAKE
UPDATE awaited_steps
SET query_at = $1
FROM (SELECT saga_id, step
FROM awaited_steps
WHERE saga_id = ANY(CAST($2 AS text[])) AND step = $3 AND query_at > $1
ORDER BY saga_id, step FOR UPDATE) AS waiting
WHERE awaited_steps.saga_id = waiting.saga_id AND awaited_steps.step = waiting.step;

-- FIND
WITH found AS (SELECT saga_id, step, number, key, provider_id
FROM attempts
WHERE key = ANY(CAST($1 AS text[])) UNION
SELECT saga_id, step, number, key, provider_id
FROM attempts
WHERE provider_id = ANY(CAST($2 AS text[])))
SELECT found.*, (SELECT partition
FROM awaited_steps
WHERE awaited_steps.saga_id = found.saga_id AND awaited_steps.step = found.step) AS partition
FROM found;
