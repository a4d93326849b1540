-- LEASE_DUE
WITH RECURSIVE pending AS ((SELECT endpoint_id
FROM deliveries
WHERE state = 'DUE'
ORDER BY endpoint_id
LIMIT 1) UNION ALL
SELECT (SELECT later.endpoint_id
FROM deliveries AS later
WHERE later.state = 'DUE' AND later.endpoint_id > pending.endpoint_id
ORDER BY later.endpoint_id
LIMIT 1)
FROM pending
WHERE pending.endpoint_id IS NOT NULL), picked AS (SELECT due.delivery_id
FROM pending JOIN endpoints ON endpoints.endpoint_id = pending.endpoint_id AND endpoints.state = 'ENABLED' LEFT JOIN unnest(CAST($1 AS text[]), CAST($2 AS integer[])) AS limited (endpoint_id, further) ON limited.endpoint_id = pending.endpoint_id CROSS JOIN LATERAL (SELECT delivery_id, due_at
FROM deliveries
WHERE deliveries.endpoint_id = endpoints.endpoint_id AND state = 'DUE' AND due_at <= CAST($3 AS timestamptz)
ORDER BY due_at
LIMIT coalesce(limited.further, $4)
FOR UPDATE SKIP LOCKED) AS due
WHERE (slow_until IS NULL OR slow_until <= CAST($3 AS timestamptz)) AND (endpoints.endpoint_id = ANY(CAST($5 AS text[]))) = CAST($6 AS boolean)
ORDER BY due.due_at
LIMIT $7) UPDATE deliveries
SET lease = CAST($8 AS text), due_at = CAST($9 AS timestamptz)
FROM picked
WHERE deliveries.delivery_id = picked.delivery_id
RETURNING deliveries.delivery_id, event_id, endpoint_id;

-- CONTENT
SELECT delivery_id, deliveries.event_id, deliveries.endpoint_id, url, endpoints.is_live, body, ARRAY(SELECT sealed
FROM endpoint_secrets
WHERE endpoint_secrets.endpoint_id = deliveries.endpoint_id AND (expires_at IS NULL OR expires_at > CAST($1 AS timestamptz))
ORDER BY number DESC) AS sealed
FROM deliveries JOIN events USING (event_id) JOIN endpoints ON endpoints.endpoint_id = deliveries.endpoint_id
WHERE delivery_id = ANY(CAST($2 AS text[]))
ORDER BY deliveries.position;

-- LOCK_ENDPOINTS
SELECT endpoint_id, merchant_id, is_live, state, failing_since, slow_until
FROM endpoints
WHERE endpoint_id = ANY(CAST($1 AS text[]))
ORDER BY endpoint_id FOR UPDATE;

-- NUMBERS
SELECT delivery_id, attempt_count
FROM deliveries
WHERE delivery_id = ANY(CAST($1 AS text[])) AND lease = CAST($2 AS text)
ORDER BY delivery_id FOR UPDATE;

-- SETTLE
UPDATE deliveries
SET state = row.state, attempt_count = row.number, due_at = coalesce(row.due_at, deliveries.due_at), lease = NULL, last_outcome = row.outcome, last_status = row.status, ended_at = CASE WHEN row.state = 'DUE' THEN NULL ELSE CAST($1 AS timestamptz) END
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS smallint[]), CAST($5 AS timestamptz[]), CAST($6 AS text[]), CAST($7 AS smallint[])) AS row (id, state, number, due_at, outcome, status)
WHERE delivery_id = row.id;

-- RECORD
INSERT INTO attempts (delivery_id, number, endpoint_id, began_at, duration_ms, outcome, status)
SELECT delivery_id, number, endpoint_id, began_at, duration_ms, outcome, status
FROM unnest(CAST($1 AS text[]), CAST($2 AS smallint[]), CAST($3 AS text[]), CAST($4 AS timestamptz[]), CAST($5 AS integer[]), CAST($6 AS text[]), CAST($7 AS smallint[])) WITH ORDINALITY AS row (delivery_id, number, endpoint_id, began_at, duration_ms, outcome, status, ordinal)
ORDER BY ordinal
ON CONFLICT (delivery_id, number) DO NOTHING;

-- CHANGE_ENDPOINTS
UPDATE endpoints
SET failing_since = row.failing_since, slow_until = row.slow_until, state = CASE WHEN row.disabled IS NULL THEN endpoints.state ELSE 'DISABLED' END, disabled_because = coalesce(row.disabled, disabled_because), disabled_at = CASE WHEN row.disabled IS NULL THEN disabled_at ELSE CAST($1 AS timestamptz) END
FROM unnest(CAST($2 AS text[]), CAST($3 AS timestamptz[]), CAST($4 AS timestamptz[]), CAST($5 AS text[])) AS row (id, failing_since, slow_until, disabled)
WHERE endpoint_id = row.id;

-- RELEASE
UPDATE deliveries
SET lease = NULL, due_at = CAST($1 AS timestamptz)
WHERE delivery_id = ANY(CAST($2 AS text[])) AND lease = CAST($3 AS text);
