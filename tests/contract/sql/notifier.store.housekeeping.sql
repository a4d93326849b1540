-- END
UPDATE deliveries
SET state = 'FAILED', lease = NULL, ended_at = $1
WHERE delivery_id IN (SELECT delivery_id
FROM deliveries JOIN endpoints USING (endpoint_id)
WHERE deliveries.state = 'DUE' AND endpoints.state <> 'ENABLED' AND (lease IS NULL OR due_at <= $1)
ORDER BY delivery_id
LIMIT $2
FOR UPDATE OF deliveries SKIP LOCKED);

-- DELETE_ATTEMPTS
DELETE
FROM attempts
WHERE (delivery_id, number) IN (SELECT delivery_id, number
FROM attempts
WHERE began_at < $1
ORDER BY began_at
LIMIT $2);

-- DELETE_DELIVERIES
DELETE
FROM deliveries
WHERE delivery_id IN (SELECT delivery_id
FROM deliveries
WHERE created_at < $1 AND state <> 'DUE'
ORDER BY created_at
LIMIT $2);

-- DELETE_EVENTS
DELETE
FROM events
WHERE event_id IN (SELECT event_id
FROM events
WHERE created_at < $1 AND NOT EXISTS (SELECT
FROM deliveries
WHERE deliveries.event_id = events.event_id)
ORDER BY created_at
LIMIT $2);

-- DELETE_OUTCOMES
DELETE
FROM saga_outcomes
WHERE saga_id IN (SELECT saga_id
FROM saga_outcomes
WHERE created_at < $1
ORDER BY created_at
LIMIT $2);

-- DELETE_TEXTS
DELETE
FROM texts
WHERE text_id IN (SELECT text_id
FROM texts
WHERE created_at < $1 AND state <> 'DUE'
ORDER BY created_at
LIMIT $2);
