-- FIND_OPEN
SELECT path
FROM accounts
WHERE path = ANY(CAST($1 AS text[]));

-- FIND_REFUNDS
SELECT refund_id, payment_id, saga_id, amount_minor, state
FROM payment_refunds
WHERE refund_id = ANY(CAST($1 AS bigint[])) UNION
SELECT refund_id, payment_id, saga_id, amount_minor, state
FROM payment_refunds
WHERE saga_id = ANY(CAST($2 AS text[]));

-- FIND_DISPUTES
SELECT dispute_id, payment_id, amount_minor, covered_minor, state
FROM payment_disputes
WHERE dispute_id = ANY(CAST($1 AS text[]));

-- SAVE_REFUNDS
INSERT INTO payment_refunds (refund_id, payment_id, saga_id, amount_minor, state)
SELECT refund_id, payment_id, saga_id, amount_minor, state
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS bigint[]), CAST($5 AS text[])) AS row (refund_id, payment_id, saga_id, amount_minor, state)
ON CONFLICT (refund_id)
DO UPDATE
SET state = excluded.state
WHERE (payment_refunds.payment_id, payment_refunds.saga_id) = (excluded.payment_id, excluded.saga_id);

-- SAVE_DISPUTES
INSERT INTO payment_disputes (dispute_id, payment_id, amount_minor, covered_minor, state)
SELECT dispute_id, payment_id, amount_minor, covered_minor, state
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS bigint[]), CAST($5 AS text[])) AS row (dispute_id, payment_id, amount_minor, covered_minor, state)
ON CONFLICT (dispute_id)
DO UPDATE
SET state = excluded.state
WHERE payment_disputes.payment_id = excluded.payment_id;
