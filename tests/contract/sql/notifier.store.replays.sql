-- REPEAT
INSERT INTO deliveries (delivery_id, event_id, endpoint_id, merchant_id, is_live, cause, due_at)
SELECT $1, event_id, endpoint_id, merchant_id, is_live, CAST($2 AS text), $3
FROM deliveries
WHERE delivery_id = $4 AND merchant_id = $5 AND is_live = $6
ON CONFLICT (event_id, endpoint_id)
WHERE state = 'DUE' DO NOTHING
RETURNING delivery_id;

-- OPEN
SELECT delivery_id
FROM deliveries
WHERE state = 'DUE' AND (event_id, endpoint_id) = (SELECT event_id, endpoint_id
FROM deliveries
WHERE delivery_id = $1 AND merchant_id = $2 AND is_live = $3);

-- SEND_NOW
UPDATE deliveries
SET due_at = $1
WHERE delivery_id = $2 AND lease IS NULL;

-- REPEAT_RANGE
WITH chosen AS (SELECT event_id, occurred_at, position
FROM events
WHERE merchant_id = $1 AND is_live = $2 AND type <> 'ping' AND occurred_at >= $3 AND occurred_at < $4 AND position > $5 AND (CAST($6 AS text[]) = '{}' OR type = ANY($6)) AND (NOT $7 OR NOT EXISTS (SELECT
FROM deliveries
WHERE deliveries.event_id = events.event_id AND endpoint_id = $8 AND state = 'DELIVERED'))
ORDER BY position
LIMIT $9), repeated AS (INSERT INTO deliveries (delivery_id, event_id, endpoint_id, merchant_id, is_live, cause, due_at)
SELECT CAST($10 AS text) || '-' || chosen.position, event_id, $8, $1, $2, CAST($11 AS text), $12
FROM chosen
ORDER BY chosen.position
ON CONFLICT (event_id, endpoint_id)
WHERE state = 'DUE' DO NOTHING
RETURNING delivery_id)
SELECT (SELECT count(*)
FROM chosen) AS chosen, (SELECT count(*)
FROM repeated) AS repeated, (SELECT max(position)
FROM chosen) AS last;
