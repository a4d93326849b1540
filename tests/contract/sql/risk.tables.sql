-- ADD_SUBJECTS
INSERT INTO subjects (kind, subject, is_live)
SELECT kind, subject, is_live
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS boolean[])) AS row (kind, subject, is_live)
ORDER BY kind, subject, is_live
ON CONFLICT DO NOTHING;

-- LOCK_SUBJECTS
SELECT kind
FROM subjects
WHERE (kind, subject, is_live) IN (SELECT kind, subject, is_live
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS boolean[])) AS row (kind, subject, is_live) UNION
SELECT 'payer', payer, is_live
FROM validations
WHERE saga_id = ANY(CAST($4 AS text[])) UNION
SELECT 'merchant', merchant_id, is_live
FROM validations
WHERE saga_id = ANY(CAST($4 AS text[])))
ORDER BY kind, subject, is_live FOR UPDATE;

-- READ_WINDOWS
SELECT row.ordinal, found.*
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS boolean[]), CAST($4 AS text[]), CAST($5 AS timestamptz[])) WITH ORDINALITY AS row (kind, subject, is_live, currency, last_minute, ordinal) CROSS JOIN LATERAL (SELECT coalesce(sum(payments) FILTER (WHERE minute > row.last_minute - interval '10 minutes'), 0) AS payments_10m, coalesce(sum(amount_minor) FILTER (WHERE minute > row.last_minute - interval '10 minutes' AND is_same), 0) AS amount_10m, coalesce(sum(payments) FILTER (WHERE minute > row.last_minute - interval '60 minutes'), 0) AS payments_1h, coalesce(sum(amount_minor) FILTER (WHERE minute > row.last_minute - interval '60 minutes' AND is_same), 0) AS amount_1h, coalesce(sum(payments) FILTER (WHERE minute > row.last_minute - interval '1440 minutes'), 0) AS payments_24h, coalesce(sum(amount_minor) FILTER (WHERE minute > row.last_minute - interval '1440 minutes' AND is_same), 0) AS amount_24h
FROM counters, LATERAL (SELECT counters.currency = row.currency AS is_same) AS compared
WHERE kind = row.kind AND subject = row.subject AND is_live = row.is_live AND minute > row.last_minute - interval '1440 minutes' AND minute <= row.last_minute) AS found;

-- FIND_BLOCKS
SELECT kind, value
FROM blocks
WHERE removed_at IS NULL AND ((kind = 'payer' AND value = ANY(CAST($1 AS text[]))) OR (kind = 'merchant' AND value = ANY(CAST($2 AS text[]))) OR kind = 'payment_method_type')
ORDER BY kind, value;

-- STORE
INSERT INTO validations (saga_id, step, payment_id, merchant_id, is_live, payer, currency, amount_minor, submitted_at, state, reason, detail, score, signals, rules_version)
SELECT saga_id, step, payment_id, merchant_id, is_live, payer, currency, amount_minor, submitted_at, state, reason, detail, score, CAST(signals AS text[]), rules_version
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS text[]), CAST($5 AS boolean[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS bigint[]), CAST($9 AS timestamptz[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS integer[]), CAST($14 AS text[]), CAST($15 AS text[])) AS row (saga_id, step, payment_id, merchant_id, is_live, payer, currency, amount_minor, submitted_at, state, reason, detail, score, signals, rules_version);

-- COUNT
INSERT INTO counters (kind, subject, is_live, minute, currency, payments, amount_minor)
SELECT kind, subject, is_live, minute, currency, payments, amount_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS boolean[]), CAST($4 AS timestamptz[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS bigint[])) AS row (kind, subject, is_live, minute, currency, payments, amount_minor)
ON CONFLICT (kind, subject, is_live, minute, currency)
DO UPDATE
SET payments = counters.payments + excluded.payments, amount_minor = counters.amount_minor + excluded.amount_minor;

-- UNCOUNT
UPDATE counters
SET payments = counters.payments + row.payments, amount_minor = counters.amount_minor + row.amount_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS boolean[]), CAST($4 AS timestamptz[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS bigint[])) AS row (kind, subject, is_live, minute, currency, payments, amount_minor)
WHERE counters.kind = row.kind AND counters.subject = row.subject AND counters.is_live = row.is_live AND counters.minute = row.minute AND counters.currency = row.currency;

-- FIND_COUNTED
SELECT saga_id, step, merchant_id, is_live, payer, currency, amount_minor, submitted_at
FROM validations
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step FOR UPDATE;

-- WITHDRAW
UPDATE validations
SET state = 'WITHDRAWN', updated_at = now()
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (saga_id, step)
WHERE validations.saga_id = row.saga_id AND validations.step = row.step;

-- DELETE_COUNTERS
DELETE
FROM counters
WHERE ctid = ANY(ARRAY(SELECT ctid
FROM counters
WHERE minute < $1
LIMIT $2));
