-- FIND_NAMED
SELECT saga_id
FROM receipt_books JOIN unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[])) AS named (provider, short_code, receipt) USING (provider, short_code, receipt);

-- FIND_RETURNED
SELECT saga_id
FROM receipt_books
WHERE returned_by = ANY(CAST($1 AS text[]));

-- LOCK
SELECT saga_id, provider, short_code, receipt, currency, amount_minor, completed_at, recorded_at, state, member_id, allocated_by, policy, policy_version, inputs, returned_by
FROM receipt_books
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id FOR NO KEY UPDATE;

-- ADD
INSERT INTO receipt_books (saga_id, provider, short_code, receipt, currency, amount_minor, completed_at, recorded_at, state, member_id, allocated_by, policy, policy_version, inputs, returned_by)
SELECT saga_id, provider, short_code, receipt, currency, amount_minor, completed_at, recorded_at, state, member_id, allocated_by, policy, policy_version, CAST(inputs AS jsonb), returned_by
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS timestamptz[]), CAST($8 AS timestamptz[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS integer[]), CAST($14 AS text[]), CAST($15 AS text[])) AS row (saga_id, provider, short_code, receipt, currency, amount_minor, completed_at, recorded_at, state, member_id, allocated_by, policy, policy_version, inputs, returned_by);

-- CHANGE
UPDATE receipt_books
SET state = row.state, member_id = row.member_id, allocated_by = row.allocated_by, policy = row.policy, policy_version = row.policy_version, inputs = CAST(row.inputs AS jsonb), returned_by = row.returned_by
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS integer[]), CAST($7 AS text[]), CAST($8 AS text[])) AS row (saga_id, state, member_id, allocated_by, policy, policy_version, inputs, returned_by)
WHERE receipt_books.saga_id = row.saga_id;
