-- PROPOSE
INSERT INTO manual_postings (posting_id, key, accounts, amounts, currencies, effective_at, reason, proposed_by, proposed_at, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'PROPOSED')
ON CONFLICT (proposed_by, key) DO NOTHING;

-- FIND_BY_KEY
SELECT posting_id, accounts, amounts, currencies, effective_at, reason, proposed_by, proposed_at, state, decided_by, decided_at, decision_reason, outcome, ended_at
FROM manual_postings
WHERE proposed_by = $1 AND key = $2;

-- FIND
SELECT posting_id, accounts, amounts, currencies, effective_at, reason, proposed_by, proposed_at, state, decided_by, decided_at, decision_reason, outcome, ended_at
FROM manual_postings
WHERE posting_id = $1;

-- LIST
SELECT posting_id, accounts, amounts, currencies, effective_at, reason, proposed_by, proposed_at, state, decided_by, decided_at, decision_reason, outcome, ended_at
FROM manual_postings
WHERE posting_id > $1 AND (CAST($2 AS text) IS NULL OR state = $2)
ORDER BY posting_id
LIMIT $3;

-- DECIDE
UPDATE manual_postings
SET state = $1, decided_by = $2, decided_at = $3, decision_reason = $4
WHERE posting_id = $5 AND state = 'PROPOSED' AND (lower(proposed_by) <> lower($2) OR $1 = 'REFUSED')
RETURNING posting_id, accounts, amounts, currencies, effective_at, reason, proposed_by, proposed_at, state, decided_by, decided_at, decision_reason, outcome, ended_at;

-- RECORD
INSERT INTO manual_postings (posting_id, key, accounts, amounts, currencies, effective_at, reason, proposed_by, proposed_at, state, decided_by, decided_at, decision_reason) VALUES ($1, $1, $2, $3, $4, $5, $6, $7, $8, 'APPROVED', $9, $10, $11)
ON CONFLICT (posting_id)
DO UPDATE
SET state = excluded.state, decided_by = excluded.decided_by, decided_at = excluded.decided_at, decision_reason = excluded.decision_reason
WHERE manual_postings.state = 'PROPOSED';

-- END
UPDATE manual_postings
SET state = $1, outcome = $2, ended_at = $3
WHERE posting_id = $4 AND state = 'APPROVED';
