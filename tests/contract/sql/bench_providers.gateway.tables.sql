-- ADD_AUTHORIZED
INSERT INTO gateway_records (id, reference, state, amount_minor)
SELECT id, reference, 'open', amount_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[])) AS row (id, reference, amount_minor);

-- RECORD_CAPTURED
UPDATE gateway_records AS known
SET state = 'captured', captures = captures + 1, captured_minor = captured_minor + row.amount_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (id, amount_minor)
WHERE known.id = row.id;

-- RECORD_VOIDED
UPDATE gateway_records
SET state = 'voided'
WHERE id = ANY(CAST($1 AS text[]));

-- RECORD_REFUNDED
UPDATE gateway_records AS known
SET state = CASE WHEN refunded_minor + row.amount_minor = captured_minor THEN 'refunded' ELSE state END, refunds = known.refunds + row.refunds, refunded_minor = refunded_minor + row.amount_minor
FROM (SELECT id, count(*) AS refunds, sum(amount_minor)::bigint AS amount_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS part (id, amount_minor) GROUP BY id) AS row
WHERE known.id = row.id;

-- ADD_CHARGED
INSERT INTO merchant_charges AS known (id, gateway, payment_id, is_open, authorized_minor, captured_minor, refunded_minor)
SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS boolean[]), CAST($5 AS bigint[]), CAST($6 AS bigint[]), CAST($7 AS bigint[]))
ON CONFLICT (id)
DO UPDATE
SET is_open = excluded.is_open, authorized_minor = known.authorized_minor + excluded.authorized_minor, captured_minor = known.captured_minor + excluded.captured_minor, refunded_minor = known.refunded_minor + excluded.refunded_minor;
