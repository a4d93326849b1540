-- OVERDUE
SELECT 'payment_reversal', count(*)
FROM gateway_reversals
WHERE ended_at IS NULL AND reported_at < now() - interval '10 minutes';

-- LOCK
SELECT saga_id, step, state, authorization_id, capture_id, refund_id, currency, amount_minor
FROM payments
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step FOR UPDATE;

-- ADD
INSERT INTO payments (saga_id, step, state, authorization_id, currency, amount_minor)
SELECT saga_id, step, state, authorization_id, currency, amount_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS bigint[])) AS row (saga_id, step, state, authorization_id, currency, amount_minor);

-- CHANGE
UPDATE payments
SET state = row.state, capture_id = row.capture_id, refund_id = row.refund_id, updated_at = now()
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[])) AS row (saga_id, step, state, capture_id, refund_id)
WHERE payments.saga_id = row.saga_id AND payments.step = row.step;

-- ADD_REFUNDS
INSERT INTO refunds (saga_id, step, order_id, amount_minor, currency, refund_id)
SELECT saga_id, step, order_id, amount_minor, currency, refund_id
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS bigint[]), CAST($5 AS text[]), CAST($6 AS text[])) AS row (saga_id, step, order_id, amount_minor, currency, refund_id);
