-- SUBSCRIPTIONS
SELECT endpoint_id, merchant_id, endpoints.is_live, types
FROM endpoints JOIN unnest(CAST($1 AS text[]), CAST($2 AS boolean[])) AS owner (merchant, is_live) ON merchant_id = owner.merchant AND endpoints.is_live = owner.is_live
WHERE state = 'ENABLED'
ORDER BY endpoint_id;

-- SAVE_EVENTS
INSERT INTO events (event_id, merchant_id, is_live, type, payment_id, saga_id, occurred_at, body)
SELECT event_id, merchant_id, is_live, type, payment_id, saga_id, occurred_at, body
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS boolean[]), CAST($4 AS text[]), CAST($5 AS bigint[]), CAST($6 AS text[]), CAST($7 AS timestamptz[]), CAST($8 AS text[])) WITH ORDINALITY AS row (event_id, merchant_id, is_live, type, payment_id, saga_id, occurred_at, body, ordinal)
ORDER BY ordinal
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id;

-- SAVE_DELIVERIES
INSERT INTO deliveries (delivery_id, event_id, endpoint_id, merchant_id, is_live, cause)
SELECT delivery_id, event_id, endpoint_id, merchant_id, is_live, cause
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS boolean[]), CAST($6 AS text[])) WITH ORDINALITY AS row (delivery_id, event_id, endpoint_id, merchant_id, is_live, cause, ordinal)
ORDER BY ordinal
ON CONFLICT DO NOTHING;

-- RECORD_OUTCOMES
INSERT INTO saga_outcomes AS known (saga_id, subject, failure)
SELECT saga_id, subject, failure
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[])) AS row (saga_id, subject, failure)
ORDER BY saga_id
ON CONFLICT (saga_id)
DO UPDATE
SET subject = coalesce(known.subject, excluded.subject), failure = coalesce(known.failure, excluded.failure)
RETURNING saga_id, subject, failure;
