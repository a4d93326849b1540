-- INSERT
INSERT INTO receipts (provider, short_code, receipt, saga_id, currency, amount_minor, completed_at, reference, collection_id, hint_member_id, member_id, state, reason, policy, policy_version, recorded_at, allocations)
SELECT provider, short_code, receipt, saga_id, currency, amount_minor, completed_at, reference, collection_id, hint_member_id, member_id, state, reason, policy, policy_version, recorded_at, '[]'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS timestamptz[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS text[]), CAST($15 AS integer[]), CAST($16 AS timestamptz[])) AS row (provider, short_code, receipt, saga_id, currency, amount_minor, completed_at, reference, collection_id, hint_member_id, member_id, state, reason, policy, policy_version, recorded_at)
ON CONFLICT (provider, short_code, receipt) DO NOTHING;

-- LOCK_BY_SAGA
SELECT provider, short_code, receipt, saga_id, currency, amount_minor, completed_at, reference, collection_id, hint_member_id, member_id, state, reason, policy, policy_version, allocations, recorded_at, ended_at
FROM receipts
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY provider, short_code, receipt FOR UPDATE;

-- BOOK
UPDATE receipts
SET state = booked.state, reason = booked.reason, member_id = coalesce(booked.member_id, receipts.member_id), allocations = CAST(booked.allocations AS jsonb), ended_at = booked.at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS timestamptz[])) AS booked (saga_id, state, reason, member_id, allocations, at)
WHERE receipts.saga_id = booked.saga_id;

-- FIND
SELECT provider, short_code, receipt, saga_id, currency, amount_minor, completed_at, reference, collection_id, hint_member_id, member_id, state, reason, policy, policy_version, allocations, recorded_at, ended_at
FROM receipts
WHERE receipt = $1
ORDER BY provider, short_code;

-- LOCK
SELECT provider, short_code, receipt, saga_id, currency, amount_minor, completed_at, reference, collection_id, hint_member_id, member_id, state, reason, policy, policy_version, allocations, recorded_at, ended_at
FROM receipts
WHERE receipt = $1
ORDER BY provider, short_code FOR UPDATE;

-- SET_STATE
UPDATE receipts
SET state = $1, ended_at = $2
WHERE provider = $3 AND short_code = $4 AND receipt = $5;

-- PAGE
SELECT provider, short_code, receipt, saga_id, currency, amount_minor, completed_at, reference, collection_id, hint_member_id, member_id, state, reason, policy, policy_version, allocations, recorded_at, ended_at
FROM receipts
WHERE (CAST($1 AS text) IS NULL OR state = $1) AND (CAST($2 AS text) IS NULL OR member_id = $2) AND (recorded_at, receipt) > (CAST($3 AS timestamptz), $4)
ORDER BY recorded_at, receipt
LIMIT $5;
