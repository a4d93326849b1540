-- FIND
SELECT payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id
FROM merchant_payments
WHERE payment_id = ANY(CAST($1 AS bigint[]));

-- FIND_BY_SAGA
SELECT payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id
FROM merchant_payments
WHERE saga_id = ANY(CAST($1 AS text[]));

-- LOCK
SELECT payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id
FROM merchant_payments
WHERE payment_id = ANY(CAST($1 AS bigint[]))
ORDER BY payment_id FOR UPDATE;

-- ACT
UPDATE merchant_payments
SET acting_saga_id = row.saga_id
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[])) AS row (payment_id, saga_id)
WHERE merchant_payments.payment_id = row.payment_id;

-- ANSWERED_LATER
SELECT effects.saga_id
FROM attempts JOIN effects ON effects.saga_id = attempts.saga_id AND effects.step = attempts.step
WHERE attempts.key = $1 AND attempts.provider_id IS NULL AND attempts.number = effects.attempt AND attempts.sends < $2 AND (effects.state = 'STARTED' OR effects.state = 'UNSURE' AND NOT effects.closing);

-- LOCK_REFUNDS
SELECT refund_id, payment_id, saga_id, currency, amount_minor, state, gateway_refund_id
FROM merchant_refunds
WHERE refund_id = ANY(CAST($1 AS bigint[]))
ORDER BY refund_id FOR UPDATE;

-- ADD
INSERT INTO merchant_payments (payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id)
SELECT payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS boolean[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS bigint[]), CAST($15 AS bigint[]), CAST($16 AS bigint[]), CAST($17 AS timestamptz[]), CAST($18 AS text[])) AS row (payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id)
ON CONFLICT (payment_id) DO NOTHING;

-- SAVE
INSERT INTO merchant_payments (payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id)
SELECT payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS boolean[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS bigint[]), CAST($15 AS bigint[]), CAST($16 AS bigint[]), CAST($17 AS timestamptz[]), CAST($18 AS text[])) AS row (payment_id, saga_id, merchant_id, is_live, account, currency, amount_minor, reference, payer, capture, state, gateway, gateway_payment_id, authorized_minor, captured_minor, refunded_minor, expires_at, acting_saga_id)
ON CONFLICT (payment_id)
DO UPDATE
SET state = excluded.state, gateway = excluded.gateway, gateway_payment_id = excluded.gateway_payment_id, authorized_minor = excluded.authorized_minor, captured_minor = excluded.captured_minor, refunded_minor = excluded.refunded_minor, expires_at = excluded.expires_at, updated_at = now();

-- ADD_REFUNDS
INSERT INTO merchant_refunds (refund_id, payment_id, saga_id, currency, amount_minor, state, gateway_refund_id)
SELECT refund_id, payment_id, saga_id, currency, amount_minor, state, gateway_refund_id
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS bigint[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bigint[]), CAST($6 AS text[]), CAST($7 AS text[])) AS row (refund_id, payment_id, saga_id, currency, amount_minor, state, gateway_refund_id)
ON CONFLICT (refund_id) DO NOTHING;

-- SAVE_REFUNDS
INSERT INTO merchant_refunds (refund_id, payment_id, saga_id, currency, amount_minor, state, gateway_refund_id)
SELECT refund_id, payment_id, saga_id, currency, amount_minor, state, gateway_refund_id
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS bigint[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bigint[]), CAST($6 AS text[]), CAST($7 AS text[])) AS row (refund_id, payment_id, saga_id, currency, amount_minor, state, gateway_refund_id)
ON CONFLICT (refund_id)
DO UPDATE
SET state = excluded.state, gateway_refund_id = excluded.gateway_refund_id, updated_at = now();
