-- SHARE_CLOSING
SELECT pg_advisory_xact_lock_shared($1);

-- LOCK_PAYMENTS
SELECT payment_id, version, status, owner, currency, authorized_minor, captured_minor, fee_minor, refunding_minor, refunded_minor, disputed_minor
FROM payments
WHERE payment_id = ANY(CAST($1 AS text[]))
ORDER BY payment_id FOR NO KEY UPDATE;

-- LOCK_BALANCES
SELECT accounts.path, accounts.id, accounts.chart, accounts.code, accounts.owner, accounts.kind, accounts.currency, accounts.lanes, balances.lane, balances.floor_minor, balances.ceiling_minor, balances.is_closed, CAST(balances.debits AS text), CAST(balances.credits AS text), CAST(balances.held_debits AS text), CAST(balances.held_credits AS text), balances.booked_at
FROM accounts JOIN balances ON balances.account_id = accounts.id AND balances.lane = mod(CAST($1 AS bigint), accounts.lanes)
WHERE accounts.path = ANY(CAST($2 AS text[]))
ORDER BY balances.account_id, balances.lane FOR NO KEY UPDATE OF balances;

-- FIND_TRANSFERS
SELECT transfers.id, transfers.reference, transfers.kind, named.reference AS named, transfers.effective_at, transfers.booked_at, transfers.expires_at, transfers.exchange_rate, transfers.payment_id, transfers.payment_version, transfers.payment_status, paths, amounts, currencies
FROM transfers LEFT JOIN transfers AS named ON named.id = transfers.of_id CROSS JOIN LATERAL (SELECT array_agg(path
ORDER BY ordinal) AS paths, array_agg(amount_minor
ORDER BY ordinal) AS amounts, array_agg(currency
ORDER BY ordinal) AS currencies
FROM transfer_entries JOIN accounts ON accounts.id = account_id
WHERE transfer_id = transfers.id) AS listed
WHERE transfers.reference = ANY(CAST($1 AS text[]));

-- FIND_RESOLVED
SELECT hold.reference AS hold, resolving.reference AS resolved_by
FROM transfers AS hold JOIN transfers AS resolving ON resolving.of_id = hold.id AND resolving.kind IN ('POST', 'VOID')
WHERE hold.reference = ANY(CAST($1 AS text[]));

-- FIND_CLOSED
SELECT chart, max(closed_until) AS closed_until
FROM day_closes GROUP BY chart;

-- TAKE_BLOCKS
SELECT nextval('ledger_blocks') AS block
FROM generate_series(1, CAST($1 AS integer));
