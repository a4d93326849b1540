-- OPEN
WITH opened AS (INSERT INTO accounts (path, chart, code, owner, kind, currency, lanes, opened_at)
SELECT path, chart, code, owner, kind, currency, lanes, opened_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS smallint[]), CAST($8 AS timestamptz[])) AS row (path, chart, code, owner, kind, currency, lanes, opened_at)
ON CONFLICT (path) DO NOTHING
RETURNING id, path, lanes, opened_at)
INSERT INTO balances (account_id, lane, floor_minor, ceiling_minor, booked_at)
SELECT opened.id, lane, limits.floor_minor, limits.ceiling_minor, opened.opened_at
FROM opened JOIN unnest(CAST($9 AS text[]), CAST($10 AS bigint[]), CAST($11 AS bigint[])) AS limits (path, floor_minor, ceiling_minor) ON limits.path = opened.path CROSS JOIN LATERAL generate_series(0, opened.lanes - 1) AS lane;

-- LOCK_LANES
SELECT debits, credits, held_debits, held_credits
FROM balances
WHERE account_id = (SELECT id
FROM accounts
WHERE path = $1)
ORDER BY lane FOR NO KEY UPDATE;

-- CLOSE
UPDATE balances
SET is_closed = true
WHERE account_id = (SELECT id
FROM accounts
WHERE path = $1);
