-- ADD
INSERT INTO gateway_notices (id, account, dedupe, event, received_at, fate, kind, gateway_payment_id, payment_id, gateway_reference, amount_minor, currency, reason, attempt_key, headers, body, decide_at, tries)
SELECT id, account, dedupe, event, received_at, fate, kind, gateway_payment_id, payment_id, gateway_reference, amount_minor, currency, reason, attempt_key, headers, body, decide_at, 0
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS timestamptz[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS bigint[]), CAST($10 AS text[]), CAST($11 AS bigint[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS text[]), CAST($15 AS text[]), CAST($16 AS bytea[]), CAST($17 AS timestamptz[])) AS row (id, account, dedupe, event, received_at, fate, kind, gateway_payment_id, payment_id, gateway_reference, amount_minor, currency, reason, attempt_key, headers, body, decide_at)
ON CONFLICT (account, dedupe) DO NOTHING
RETURNING id;

-- FAILED_BEFORE
SELECT id
FROM gateway_notices
WHERE account = $1 AND gateway_reference = $2 AND kind IN ('CAPTURE_FAILED', 'REFUND_FAILED') AND fate = 'REPORTED';

-- CAPTURES
SELECT id
FROM gateway_notices
WHERE account = $1 AND gateway_reference = $2 AND event = 'CAPTURE' AND starts_with(dedupe, gateway_reference || ':CAPTURE:true:');

-- CLOSE
UPDATE gateway_notices
SET fate = 'CLOSED', closed_by = $1, closed_reason = $2
WHERE id = $3 AND fate = 'STRANGE'
RETURNING id;

-- WAITING
SELECT id, account, received_at, tries, kind, gateway_payment_id, payment_id, gateway_reference, amount_minor, currency, reason, attempt_key
FROM gateway_notices
WHERE decide_at <= $1
ORDER BY decide_at, id
LIMIT $2
FOR UPDATE SKIP LOCKED;

-- DECIDE
UPDATE gateway_notices
SET fate = row.fate, decide_at = row.decide_at, tries = tries + 1
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS timestamptz[])) AS row (id, fate, decide_at)
WHERE gateway_notices.id = row.id;

-- BODY
SELECT headers, body
FROM gateway_notices
WHERE id = $1;

-- ADD_REVERSALS
INSERT INTO gateway_reversals (reversal_id, account, kind, gateway_reference, payment_id, refund_id, reversed_minor, currency, reason, notice_id, reported_at)
SELECT reversal_id, account, kind, gateway_reference, payment_id, refund_id, reversed_minor, currency, reason, notice_id, reported_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bigint[]), CAST($6 AS bigint[]), CAST($7 AS bigint[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS timestamptz[])) AS row (reversal_id, account, kind, gateway_reference, payment_id, refund_id, reversed_minor, currency, reason, notice_id, reported_at)
ON CONFLICT (reversal_id) DO NOTHING
RETURNING reversal_id;

-- END_REVERSALS
UPDATE gateway_reversals
SET ended_at = row.ended_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS timestamptz[])) AS row (id, ended_at)
WHERE reversal_id = row.id AND gateway_reversals.ended_at IS NULL;
