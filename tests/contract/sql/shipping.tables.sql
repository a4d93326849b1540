-- LOCK
SELECT saga_id, step, state, tracking_number
FROM shipments
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step FOR UPDATE;

-- ADD
INSERT INTO shipments (saga_id, step, state, tracking_number)
SELECT saga_id, step, state, tracking_number
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[])) AS row (saga_id, step, state, tracking_number);

-- CHANGE
UPDATE shipments
SET state = row.state, updated_at = now()
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[])) AS row (saga_id, step, state)
WHERE shipments.saga_id = row.saga_id AND shipments.step = row.step;

-- ADD_COLLECTIONS
INSERT INTO collections (saga_id, step, order_id, state, collection_id, received, refund_minor, surplus)
SELECT saga_id, step, order_id, state, collection_id, CAST(received AS jsonb), refund_minor, CAST(surplus AS jsonb)
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS text[])) AS row (saga_id, step, order_id, state, collection_id, received, refund_minor, surplus);
