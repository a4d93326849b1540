-- FIND_RECEIPT
SELECT saga_id, provider, short_code, receipt, currency, amount_minor, completed_at, recorded_at, state, member_id, allocated_by, policy, policy_version, inputs, returned_by
FROM receipt_books
WHERE provider = $1 AND short_code = $2 AND receipt = $3;

-- LIST_RECEIPTS
SELECT saga_id, provider, short_code, receipt, currency, amount_minor, completed_at, recorded_at, state, member_id, allocated_by, policy, policy_version, inputs, returned_by
FROM receipt_books
WHERE short_code = $1 AND state = $2 AND (completed_at, saga_id) > ($3, $4)
ORDER BY completed_at, saga_id
LIMIT $5;

-- LIST_PAYOUTS
SELECT saga_id, short_code, source, member_id, currency, amount_minor, held_at, state, ended_at
FROM payout_books
WHERE short_code = $1 AND state = $2 AND (held_at, saga_id) > ($3, $4)
ORDER BY held_at, saga_id
LIMIT $5;

-- ACCOUNTS
SELECT path AS account, code, currency, is_closed, CAST(sum(credits) - sum(debits) AS text) AS credit
FROM accounts JOIN balances ON account_id = id
WHERE owner = $1 AND chart = 'sacco' AND code = ANY(CAST($2 AS text[])) GROUP BY id, path, code, currency, is_closed
ORDER BY path;

-- LOANS
SELECT loan_id
FROM loan_books
WHERE member_id = $1
ORDER BY loan_id;

-- STATEMENT
SELECT entry.transfer_id, entry.ordinal, reference, amount_minor, entry.booked_at, entry.effective_at, saga_id, step, CAST(credits_after - debits_after AS text) AS credit_after
FROM transfer_entries AS entry JOIN transfers ON transfers.id = entry.transfer_id
WHERE entry.account_id = (SELECT id
FROM accounts
WHERE path = $1) AND entry.lane = 0 AND NOT entry.is_hold AND entry.booked_at >= $2 AND entry.booked_at < $3 AND (entry.transfer_id, entry.ordinal) < ($4, $5)
ORDER BY entry.booked_at DESC, entry.transfer_id DESC, entry.ordinal DESC
LIMIT $6;
