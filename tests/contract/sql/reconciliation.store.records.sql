-- ADD
INSERT INTO records (saga_id, source, kind, movement, payment_id, refund_id, merchant_id, is_live, gateway, account, gateway_payment_id, reference, currency, amount_minor, fee_minor, occurred_at, recorded_at)
SELECT saga_id, source, kind, movement, payment_id, refund_id, merchant_id, is_live, gateway, account, gateway_payment_id, reference, currency, amount_minor, fee_minor, occurred_at, $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS bigint[]), CAST($8 AS text[]), CAST($9 AS boolean[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS text[]), CAST($15 AS bigint[]), CAST($16 AS bigint[]), CAST($17 AS timestamptz[])) AS row (saga_id, source, kind, movement, payment_id, refund_id, merchant_id, is_live, gateway, account, gateway_payment_id, reference, currency, amount_minor, fee_minor, occurred_at)
ON CONFLICT (saga_id, source) DO NOTHING;

-- ADD_PAYMENTS
INSERT INTO payments (account, payment_id, gateway_payment_id, merchant_id, is_live)
SELECT account, payment_id, gateway_payment_id, merchant_id, is_live
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS boolean[])) AS row (account, payment_id, gateway_payment_id, merchant_id, is_live)
ON CONFLICT (account, payment_id)
DO UPDATE
SET gateway_payment_id = coalesce(payments.gateway_payment_id, excluded.gateway_payment_id)
WHERE payments.gateway_payment_id IS NULL AND excluded.gateway_payment_id IS NOT NULL;
