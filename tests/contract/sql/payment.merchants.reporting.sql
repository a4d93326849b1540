-- PAYMENT_IDS
SELECT payment_id
FROM merchant_payments
WHERE (account, gateway_payment_id) IN (SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])));

-- REFUND_IDS
SELECT refund_id, payment_id, gateway_refund_id, saga_id
FROM merchant_refunds
WHERE payment_id = ANY(CAST($1 AS bigint[]));

-- ACTING
SELECT saga_id
FROM effects
WHERE saga_id = ANY(CAST($1 AS text[])) AND step = 'capture_or_void' AND state IN ('STARTED', 'SENT', 'UNSURE', 'PAUSED');
