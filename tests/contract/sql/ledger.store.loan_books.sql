-- LOCK
SELECT loan_id, version, state, member_id, currency, principal_minor, interest_ppm, term_months, fee_minor, penalty_ppm
FROM loan_books
WHERE loan_id = ANY(CAST($1 AS text[]))
ORDER BY loan_id FOR NO KEY UPDATE;

-- FIND
SELECT loan_id, version, state, member_id, currency, principal_minor, interest_ppm, term_months, fee_minor, penalty_ppm
FROM loan_books
WHERE loan_id = ANY(CAST($1 AS text[]));

-- FIND_DISBURSEMENTS
SELECT loan_id, part, saga_id, amount_minor, value_at
FROM loan_disbursements
WHERE loan_id = ANY(CAST($1 AS text[]))
ORDER BY loan_id, part;

-- FIND_PAYMENTS
SELECT loan_id, number, saga_id, value_at, penalties_minor, fees_minor, interest_minor, principal_minor, loan_order, policy, policy_version
FROM loan_payments
WHERE loan_id = ANY(CAST($1 AS text[]))
ORDER BY loan_id, number;

-- ADD
INSERT INTO loan_books (loan_id, version, state, member_id, currency, principal_minor, interest_ppm, term_months, fee_minor, penalty_ppm)
SELECT loan_id, version, state, member_id, currency, principal_minor, interest_ppm, term_months, fee_minor, penalty_ppm
FROM unnest(CAST($1 AS text[]), CAST($2 AS integer[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS integer[]), CAST($8 AS integer[]), CAST($9 AS bigint[]), CAST($10 AS integer[])) AS row (loan_id, version, state, member_id, currency, principal_minor, interest_ppm, term_months, fee_minor, penalty_ppm);

-- CHANGE
UPDATE loan_books
SET version = row.version, state = row.state
FROM unnest(CAST($1 AS text[]), CAST($2 AS integer[]), CAST($3 AS text[])) AS row (loan_id, version, state)
WHERE loan_books.loan_id = row.loan_id AND loan_books.version < row.version;

-- ADD_DISBURSEMENTS
INSERT INTO loan_disbursements (loan_id, part, saga_id, amount_minor, value_at)
SELECT loan_id, part, saga_id, amount_minor, value_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS integer[]), CAST($3 AS text[]), CAST($4 AS bigint[]), CAST($5 AS timestamptz[])) AS row (loan_id, part, saga_id, amount_minor, value_at);

-- ADD_PAYMENTS
INSERT INTO loan_payments (loan_id, number, saga_id, value_at, penalties_minor, fees_minor, interest_minor, principal_minor, loan_order, policy, policy_version)
SELECT loan_id, number, saga_id, value_at, penalties_minor, fees_minor, interest_minor, principal_minor, loan_order, policy, policy_version
FROM unnest(CAST($1 AS text[]), CAST($2 AS integer[]), CAST($3 AS text[]), CAST($4 AS timestamptz[]), CAST($5 AS bigint[]), CAST($6 AS bigint[]), CAST($7 AS bigint[]), CAST($8 AS bigint[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS integer[])) AS row (loan_id, number, saga_id, value_at, penalties_minor, fees_minor, interest_minor, principal_minor, loan_order, policy, policy_version);

-- CORRECT_PAYMENTS
UPDATE loan_payments
SET penalties_minor = row.penalties_minor, fees_minor = row.fees_minor, interest_minor = row.interest_minor, principal_minor = row.principal_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS integer[]), CAST($3 AS bigint[]), CAST($4 AS bigint[]), CAST($5 AS bigint[]), CAST($6 AS bigint[])) AS row (loan_id, number, penalties_minor, fees_minor, interest_minor, principal_minor)
WHERE loan_payments.loan_id = row.loan_id AND loan_payments.number = row.number;
