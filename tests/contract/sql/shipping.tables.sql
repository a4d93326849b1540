-- LOCK
SELECT saga_id, state, tracking_number
FROM shipments
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id FOR UPDATE;

-- ADD
INSERT INTO shipments (saga_id, state, tracking_number)
SELECT saga_id, state, tracking_number
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[])) AS row (saga_id, state, tracking_number);

-- CHANGE
UPDATE shipments
SET state = row.state, updated_at = now()
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (saga_id, state)
WHERE shipments.saga_id = row.saga_id;
