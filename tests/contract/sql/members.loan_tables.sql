-- LOANS
SELECT loan_id, member_id, state, principal_minor, interest_ppm, term_months, loan_fee_minor, penalty_ppm, phone, provider, short_code, currency, applied_by, applied_at, proposed_by, proposal_reason, proposed_at, approved_by, approval_reason, approved_at, balance_minor, balance_at, is_paid, ended_at
FROM loans
WHERE loan_id = ANY(CAST($1 AS text[]));

-- LOCK
SELECT loan_id, member_id, state, principal_minor, interest_ppm, term_months, loan_fee_minor, penalty_ppm, phone, provider, short_code, currency, applied_by, applied_at, proposed_by, proposal_reason, proposed_at, approved_by, approval_reason, approved_at, balance_minor, balance_at, is_paid, ended_at
FROM loans
WHERE loan_id = ANY(CAST($1 AS text[]))
ORDER BY loan_id FOR UPDATE;

-- OPEN_OF
SELECT member_id, loan_id, state
FROM loans
WHERE member_id = ANY(CAST($1 AS text[])) AND state IN ('DISBURSING', 'ACTIVE')
ORDER BY member_id, applied_at, loan_id;

-- PARTS_BY_SAGA
SELECT loan_id, part, generation, saga_id, amount_minor, state, failure_reason, receipt, released_at, ended_at
FROM loan_parts
WHERE saga_id = ANY(CAST($1 AS text[]));

-- END_PARTS
UPDATE loan_parts
SET state = ended.state, failure_reason = ended.reason, receipt = ended.receipt, ended_at = ended.at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS timestamptz[])) AS ended (saga_id, state, reason, receipt, at)
WHERE loan_parts.saga_id = ended.saga_id AND loan_parts.state <> 'PAID';

-- ACTIVATE
UPDATE loans
SET state = 'ACTIVE'
WHERE loan_id = ANY(CAST($1 AS text[])) AND state = 'DISBURSING' AND NOT EXISTS (SELECT
FROM loan_parts
WHERE loan_parts.loan_id = loans.loan_id AND loan_parts.state <> 'PAID');

-- BALANCE
UPDATE loans
SET balance_minor = paid.balance, is_paid = loans.is_paid OR paid.is_paid, balance_at = paid.at
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[]), CAST($3 AS boolean[]), CAST($4 AS timestamptz[])) AS paid (loan_id, balance, is_paid, at)
WHERE loans.loan_id = paid.loan_id AND (loans.balance_at IS NULL OR loans.balance_at <= paid.at);

-- END_PAID
UPDATE loans
SET state = 'PAID', ended_at = balance_at
WHERE loan_id = ANY(CAST($1 AS text[])) AND state = 'ACTIVE' AND is_paid;

-- INSERT
INSERT INTO loans (loan_id, member_id, principal_minor, interest_ppm, term_months, loan_fee_minor, penalty_ppm, phone, provider, short_code, currency, applied_by, applied_at, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'APPLIED')
ON CONFLICT (loan_id) DO NOTHING;

-- APPRAISE
UPDATE loans
SET state = 'APPRAISED', proposed_by = $1, proposal_reason = $2, proposed_at = $3
WHERE loan_id = $4 AND state = 'APPLIED';

-- APPROVE
UPDATE loans
SET state = 'DISBURSING', approved_by = $1, approval_reason = $2, approved_at = $3
WHERE loan_id = $4 AND state = 'APPRAISED' AND lower(proposed_by) <> lower($1);

-- REFUSE
UPDATE loans
SET state = 'REFUSED', approval_reason = $1, ended_at = $2
WHERE loan_id = $3 AND state IN ('APPLIED', 'APPRAISED');

-- INSERT_PART
INSERT INTO loan_parts (loan_id, part, generation, amount_minor, state) VALUES ($1, $2, 0, $3, 'PENDING');

-- RELEASE_PART
UPDATE loan_parts
SET state = 'RELEASED', generation = generation + 1, saga_id = $1, released_at = $2, failure_reason = NULL, ended_at = NULL
WHERE loan_id = $3 AND part = $4 AND generation = $5 AND state IN ('PENDING', 'FAILED');

-- PARTS_OF
SELECT loan_id, part, generation, saga_id, amount_minor, state, failure_reason, receipt, released_at, ended_at
FROM loan_parts
WHERE loan_id = $1
ORDER BY part;

-- PAGE
SELECT loan_id, member_id, state, principal_minor, interest_ppm, term_months, loan_fee_minor, penalty_ppm, phone, provider, short_code, currency, applied_by, applied_at, proposed_by, proposal_reason, proposed_at, approved_by, approval_reason, approved_at, balance_minor, balance_at, is_paid, ended_at
FROM loans
WHERE loan_id > $1 AND (CAST($2 AS text) IS NULL OR member_id = $2) AND (CAST($3 AS text) IS NULL OR state = $3)
ORDER BY loan_id
LIMIT $4;
