-- FIND_ACCOUNT
SELECT id, path, chart, code, owner, kind, currency, opened_at, bool_or(is_closed) AS is_closed, min(floor_minor) AS floor_minor, min(ceiling_minor) AS ceiling_minor
FROM accounts JOIN balances ON account_id = id
WHERE path = $1 GROUP BY id;

-- LIST_ACCOUNTS
SELECT listed.*, is_closed, floor_minor, ceiling_minor
FROM (SELECT id, path, chart, code, owner, kind, currency, opened_at
FROM accounts
WHERE id > $1 AND (CAST($2 AS text) IS NULL OR chart = $2) AND (CAST($3 AS text) IS NULL OR owner = $3)
ORDER BY id
LIMIT $4) AS listed JOIN balances ON account_id = id AND lane = 0
ORDER BY id;

-- BALANCE_NOW
SELECT coalesce(sum(debits), 0) AS debits, coalesce(sum(credits), 0) AS credits, coalesce(sum(held_debits), 0) AS held_debits, coalesce(sum(held_credits), 0) AS held_credits
FROM balances
WHERE account_id = $1;

-- FIND_TRANSFER
SELECT transfers.id, transfers.reference, transfers.kind, named.reference AS of, transfers.booked_at, transfers.effective_at, transfers.expires_at, transfers.exchange_rate, transfers.is_late, transfers.saga_id, transfers.step, transfers.message_id, (SELECT reference
FROM transfers AS other
WHERE other.of_id = transfers.id AND other.kind IN ('POST', 'VOID')) AS resolved_by
FROM transfers LEFT JOIN transfers AS named ON named.id = transfers.of_id
WHERE transfers.reference = $1;

-- ENTRIES_OF
SELECT ordinal, path AS account, amount_minor, currency, is_hold
FROM transfer_entries JOIN accounts ON accounts.id = account_id
WHERE transfer_id = $1
ORDER BY ordinal;

-- SETTLED_UNTIL
SELECT least(clock_timestamp(), min(xact_start)) - CAST($1 AS interval)
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 1 AND (CAST(classid AS bigint) << 32) + CAST(objid AS bigint) = $2 AND database = (SELECT oid
FROM pg_database
WHERE datname = current_database());

-- BALANCE_BOOKED
SELECT coalesce(sum(debits_after), 0) AS debits, coalesce(sum(credits_after), 0) AS credits
FROM balances CROSS JOIN LATERAL (SELECT debits_after, credits_after
FROM transfer_entries AS entry
WHERE entry.account_id = balances.account_id AND entry.lane = balances.lane AND entry.booked_at <= $1
ORDER BY entry.booked_at DESC, entry.transfer_id DESC, entry.ordinal DESC
LIMIT 1) AS latest
WHERE balances.account_id = $2;

-- CROSSING
SELECT coalesce(sum(times * greatest(amount_minor, 0)), 0) AS debits, coalesce(sum(times * greatest(-amount_minor, 0)), 0) AS credits
FROM (SELECT amount_minor, CASE WHEN booked_at > $1 THEN 1 ELSE -1 END AS times
FROM transfer_entries
WHERE account_id = $2 AND booked_at > $3 AND booked_at <= $4 AND effective_at <> booked_at AND NOT is_hold AND ((effective_at <= $1 AND booked_at > $1 AND booked_at - effective_at <= interval '5 seconds') OR (effective_at > $1 AND booked_at <= $1 AND effective_at - booked_at <= interval '5 seconds')) UNION ALL
SELECT amount_minor, 1
FROM transfer_entries
WHERE account_id = $2 AND booked_at > $1 AND effective_at <= $1 AND NOT is_hold AND booked_at - effective_at > interval '5 seconds' UNION ALL
SELECT amount_minor, -1
FROM transfer_entries
WHERE account_id = $2 AND effective_at > $1 AND booked_at <= $1 AND NOT is_hold AND effective_at - booked_at > interval '5 seconds') AS crossing;

-- STATEMENT
SELECT line.*, reference, transfers.kind, saga_id, step, message_id, is_late
FROM (SELECT entry.*
FROM balances LEFT JOIN unnest(CAST($1 AS smallint[]), CAST($2 AS timestamptz[]), CAST($3 AS bigint[]), CAST($4 AS smallint[])) AS after (lane, booked_at, transfer_id, ordinal) ON after.lane = balances.lane CROSS JOIN LATERAL (SELECT entry.lane, entry.transfer_id, entry.ordinal, amount_minor, is_hold, entry.booked_at, effective_at
FROM transfer_entries AS entry
WHERE entry.account_id = balances.account_id AND entry.lane = balances.lane AND (entry.booked_at, entry.transfer_id, entry.ordinal) > (coalesce(after.booked_at, '-infinity'), coalesce(after.transfer_id, 0), coalesce(after.ordinal, 0))
ORDER BY entry.booked_at, entry.transfer_id, entry.ordinal
LIMIT $5) AS entry
WHERE balances.account_id = $6
ORDER BY booked_at, transfer_id, ordinal
LIMIT $5) AS line JOIN transfers ON transfers.id = transfer_id
ORDER BY line.booked_at, transfer_id, ordinal;
