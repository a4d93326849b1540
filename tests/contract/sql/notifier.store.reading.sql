-- FIND_EVENT
SELECT event_id, position, type, payment_id, occurred_at, created_at, body
FROM events
WHERE merchant_id = $1 AND is_live = $2 AND event_id = $3;

-- LIST_EVENTS
SELECT event_id, position, type, payment_id, occurred_at, created_at, body
FROM events
WHERE merchant_id = $1 AND is_live = $2 AND position < $3 AND (CAST($4 AS text) IS NULL OR type = $4) AND (CAST($5 AS bigint) IS NULL OR payment_id = $5)
ORDER BY position DESC
LIMIT $6;

-- FIND_DELIVERY
SELECT delivery_id, deliveries.position, deliveries.event_id, endpoint_id, events.type, cause, state, attempt_count, CASE state WHEN 'DUE' THEN due_at END AS next_attempt_at, last_outcome, last_status, deliveries.created_at, ended_at
FROM deliveries JOIN events USING (event_id)
WHERE deliveries.merchant_id = $1 AND deliveries.is_live = $2 AND delivery_id = $3;

-- LIST_DELIVERIES
SELECT delivery_id, deliveries.position, deliveries.event_id, endpoint_id, events.type, cause, state, attempt_count, CASE state WHEN 'DUE' THEN due_at END AS next_attempt_at, last_outcome, last_status, deliveries.created_at, ended_at
FROM deliveries JOIN events USING (event_id)
WHERE deliveries.merchant_id = $1 AND deliveries.is_live = $2 AND deliveries.position < $3 AND (CAST($4 AS text) IS NULL OR state = $4) AND (CAST($5 AS text) IS NULL OR endpoint_id = $5) AND (CAST($6 AS text) IS NULL OR deliveries.event_id = $6)
ORDER BY deliveries.position DESC
LIMIT $7;

-- LIST_ATTEMPTS
SELECT attempts.position, delivery_id, number, deliveries.event_id, attempts.endpoint_id, began_at, duration_ms, outcome, status
FROM attempts JOIN deliveries USING (delivery_id)
WHERE merchant_id = $1 AND is_live = $2 AND attempts.position < $3 AND (CAST($4 AS text) IS NULL OR attempts.endpoint_id = $4) AND (CAST($5 AS text) IS NULL OR attempts.delivery_id = $5) AND (NOT $6 OR outcome <> 'SUCCEEDED')
ORDER BY attempts.position DESC
LIMIT $7;

-- OLDEST_DUE_S
SELECT coalesce(extract(epoch
FROM now() - min(due_at)), 0)
FROM deliveries JOIN endpoints USING (endpoint_id)
WHERE deliveries.state = 'DUE' AND due_at <= now() AND endpoints.state = 'ENABLED' AND (slow_until IS NULL OR slow_until <= now()) AND NOT EXISTS (SELECT
FROM deliveries AS leased
WHERE leased.endpoint_id = endpoints.endpoint_id AND leased.state = 'DUE' AND leased.lease IS NOT NULL AND leased.due_at > now());

-- DISABLED_COUNTS
SELECT disabled_because, count(*)
FROM endpoints
WHERE state = 'DISABLED' GROUP BY disabled_because;
