-- LOCK
SELECT pg_advisory_xact_lock(8226684427217141761);

-- NEXT
SELECT coalesce(max(run), 0) + 1
FROM runs;

-- COUNTS
SELECT state, count(*)
FROM run_lines
WHERE run = $1 GROUP BY state;

-- FINDINGS
SELECT item, movement, key, state, payment_id, currency, feed_currency, ledger_minor, gateway_minor, feed_minor
FROM run_lines
WHERE run = $1 AND state <> 'MATCHED' AND state = ANY(CAST($2 AS text[]));

-- ADD
INSERT INTO runs (run, account, kind, day, as_of, began_at, finished_at, requested_by, line_count, open_count, opened, closed, changed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- ADD_COUNTS
INSERT INTO run_counts (run, state, count) VALUES ($1, $2, $3);

-- FIND
SELECT run, account, kind, day, as_of, began_at, finished_at, requested_by, line_count, open_count, opened, closed, changed
FROM runs
WHERE run = $1;

-- LIST
SELECT run, account, kind, day, as_of, began_at, finished_at, requested_by, line_count, open_count, opened, closed, changed
FROM runs
WHERE run < $1 AND (CAST($2 AS text) IS NULL OR account = $2)
ORDER BY run DESC
LIMIT $3;

-- COUNTS_OF
SELECT run, state, count
FROM run_counts
WHERE run = ANY(CAST($1 AS integer[]));

-- LINES_OF
SELECT number, state, item, movement, key, payment_id, currency, ledger_minor, gateway_minor, feed_minor, feed_currency, fee_minor, batch, occurred_at
FROM run_lines
WHERE run = $1 AND number > $2 AND (CAST($3 AS text) IS NULL OR state = $3)
ORDER BY number
LIMIT $4;

-- DONE
SELECT kind, day
FROM runs
WHERE account = $1 AND kind = ANY(CAST($2 AS text[]));

-- PROGRESS
INSERT INTO progress (account, since) VALUES ($1, $2)
ON CONFLICT (account) DO NOTHING;

-- PROGRESS_OF
SELECT since, run_at, fetched_at
FROM progress
WHERE account = $1;

-- ADVANCE
UPDATE progress
SET run_at = $1
WHERE account = $2;

-- FETCHED
UPDATE progress
SET fetched_at = $1
WHERE account = $2;

-- RETIRE
DELETE
FROM progress
WHERE account <> ALL(CAST($1 AS text[]));

-- REQUEST
INSERT INTO run_requests (request_id, account, day, as_of, requested_by, requested_at) VALUES ($1, $2, $3, $4, $5, $6);

-- REQUESTED
SELECT request_id, account, day, as_of, requested_by
FROM run_requests
WHERE run IS NULL AND failure IS NULL
ORDER BY requested_at
LIMIT 1;

-- REQUEST_OF
SELECT request_id, account, day, as_of, requested_by, requested_at, run, failure
FROM run_requests
WHERE request_id = $1;

-- ANSWER
UPDATE run_requests
SET run = $1, failure = $2
WHERE request_id = $3;
