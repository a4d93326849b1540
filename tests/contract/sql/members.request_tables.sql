-- INSERT_COLLECTIONS
INSERT INTO collections (collection_id, member_id, provider, short_code, reference, target, phone, currency, amount_minor, requested_at, state, is_paid)
SELECT collection_id, member_id, provider, short_code, reference, target, phone, currency, amount_minor, requested_at, 'REQUESTED', false
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS bigint[]), CAST($10 AS timestamptz[])) AS row (collection_id, member_id, provider, short_code, reference, target, phone, currency, amount_minor, requested_at);

-- INSERT_WITHDRAWALS
INSERT INTO withdrawals (withdrawal_id, member_id, provider, short_code, phone, currency, amount_minor, fee_minor, excise_minor, requested_at, state)
SELECT withdrawal_id, member_id, provider, short_code, phone, currency, amount_minor, fee_minor, excise_minor, requested_at, 'REQUESTED'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS bigint[]), CAST($9 AS bigint[]), CAST($10 AS timestamptz[])) AS row (withdrawal_id, member_id, provider, short_code, phone, currency, amount_minor, fee_minor, excise_minor, requested_at);

-- INSERT_REPAYMENTS
INSERT INTO repayments (repayment_id, member_id, loan_id, currency, amount_minor, requested_at, state)
SELECT repayment_id, member_id, loan_id, currency, amount_minor, requested_at, 'REQUESTED'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bigint[]), CAST($6 AS timestamptz[])) AS row (repayment_id, member_id, loan_id, currency, amount_minor, requested_at);

-- RECENT
SELECT 'collection' AS kind, collection_id AS id, member_id, phone, amount_minor, requested_at, ended_at IS NULL AS is_open
FROM collections
WHERE member_id = ANY(CAST($1 AS text[])) AND ended_at IS NULL AND requested_at >= $2 UNION ALL
SELECT 'withdrawal', withdrawal_id, member_id, phone, amount_minor, requested_at, ended_at IS NULL
FROM withdrawals
WHERE (member_id = ANY(CAST($1 AS text[])) OR phone = ANY(CAST($3 AS text[]))) AND state NOT IN ('FAILED', 'CANCELLED') AND requested_at >= $4 UNION ALL
SELECT 'repayment', repayment_id, member_id, loan_id, amount_minor, requested_at, ended_at IS NULL
FROM repayments
WHERE member_id = ANY(CAST($1 AS text[])) AND ended_at IS NULL AND requested_at >= $2;

-- COLLECTIONS
SELECT collection_id, member_id, provider, short_code, reference, target, phone, currency, amount_minor, state, is_paid, failure, failure_detail, receipt, received_minor, requested_at, prompted_at, ended_at
FROM collections
WHERE collection_id = ANY(CAST($1 AS text[]));

-- LOCK_COLLECTIONS
SELECT collection_id, member_id, provider, short_code, reference, target, phone, currency, amount_minor, state, is_paid, failure, failure_detail, receipt, received_minor, requested_at, prompted_at, ended_at
FROM collections
WHERE collection_id = ANY(CAST($1 AS text[])) OR reference = ANY(CAST($2 AS text[]))
ORDER BY collection_id FOR UPDATE;

-- SAVE_COLLECTIONS
UPDATE collections
SET state = row.state, is_paid = row.is_paid, failure = row.failure, failure_detail = row.failure_detail, receipt = row.receipt, received_minor = row.received_minor, prompted_at = row.prompted_at, ended_at = row.ended_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS boolean[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS timestamptz[]), CAST($9 AS timestamptz[])) AS row (collection_id, state, is_paid, failure, failure_detail, receipt, received_minor, prompted_at, ended_at)
WHERE collections.collection_id = row.collection_id;

-- WITHDRAWALS
SELECT withdrawal_id, member_id, provider, short_code, phone, currency, amount_minor, fee_minor, excise_minor, state, failure_cause, failure_reason, receipt, requested_at, cancellation_requested_at, ended_at
FROM withdrawals
WHERE withdrawal_id = ANY(CAST($1 AS text[]));

-- REPAYMENTS
SELECT repayment_id, member_id, loan_id, currency, amount_minor, state, failure_reason, allocations, requested_at, ended_at
FROM repayments
WHERE repayment_id = ANY(CAST($1 AS text[]));

-- END_WITHDRAWALS
WITH row AS (SELECT withdrawal_id
FROM withdrawals
WHERE withdrawal_id = ANY(CAST($1 AS text[]))
ORDER BY withdrawal_id FOR UPDATE), ended AS (SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS timestamptz[])) AS ended (withdrawal_id, state, cause, reason, receipt, at)) UPDATE withdrawals
SET state = ended.state, failure_cause = ended.cause, failure_reason = ended.reason, receipt = coalesce(withdrawals.receipt, ended.receipt), ended_at = coalesce(withdrawals.ended_at, ended.at)
FROM ended JOIN row USING (withdrawal_id)
WHERE withdrawals.withdrawal_id = ended.withdrawal_id AND withdrawals.state <> 'PAID';

-- END_REPAYMENTS
WITH row AS (SELECT repayment_id
FROM repayments
WHERE repayment_id = ANY(CAST($1 AS text[]))
ORDER BY repayment_id FOR UPDATE), ended AS (SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS timestamptz[])) AS ended (repayment_id, state, reason, allocations, at)) UPDATE repayments
SET state = ended.state, failure_reason = ended.reason, allocations = CAST(ended.allocations AS jsonb), ended_at = ended.at
FROM ended JOIN row USING (repayment_id)
WHERE repayments.repayment_id = ended.repayment_id AND repayments.ended_at IS NULL;

-- REQUEST_CANCELLATION
UPDATE withdrawals
SET cancellation_requested_at = $1
WHERE withdrawal_id = $2 AND cancellation_requested_at IS NULL AND ended_at IS NULL;

-- COLLECTIONS_OF
SELECT collection_id, member_id, provider, short_code, reference, target, phone, currency, amount_minor, state, is_paid, failure, failure_detail, receipt, received_minor, requested_at, prompted_at, ended_at
FROM collections
WHERE member_id = $1 AND collection_id < $2
ORDER BY collection_id DESC
LIMIT $3;

-- WITHDRAWALS_OF
SELECT withdrawal_id, member_id, provider, short_code, phone, currency, amount_minor, fee_minor, excise_minor, state, failure_cause, failure_reason, receipt, requested_at, cancellation_requested_at, ended_at
FROM withdrawals
WHERE member_id = $1 AND withdrawal_id < $2
ORDER BY withdrawal_id DESC
LIMIT $3;

-- REPAYMENTS_OF
SELECT repayment_id, member_id, loan_id, currency, amount_minor, state, failure_reason, allocations, requested_at, ended_at
FROM repayments
WHERE member_id = $1 AND repayment_id < $2
ORDER BY repayment_id DESC
LIMIT $3;
