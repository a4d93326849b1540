-- HELD
SELECT member_id, kind, CAST(sum(amount_minor * CASE WHEN month < $1 THEN 12 ELSE 13 - extract(month
FROM month)::int END) AS bigint) AS amount_months
FROM holdings
WHERE month < $2 GROUP BY member_id, kind;

-- INSERT_RUN
INSERT INTO dividend_runs (run_id, year, dividend_ppm, rebate_ppm, dividend_tax_ppm, rebate_tax_ppm, provider, short_code, currency, line_count, gross_minor, tax_minor, net_minor, lines_sha256, regulator_reference, meeting_reference, proposed_by, reason, proposed_at, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 'COMPUTED')
ON CONFLICT (run_id) DO NOTHING;

-- INSERT_LINES
INSERT INTO dividend_lines (line_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, run_id, state)
SELECT line_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, $1, 'PENDING'
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS bigint[]), CAST($8 AS bigint[])) AS row (line_id, member_id, kind, destination, gross_minor, tax_minor, net_minor);

-- DELETE_LINES
DELETE
FROM dividend_lines
WHERE run_id = $1;

-- DELETE_RUN
DELETE
FROM dividend_runs
WHERE run_id = $1 AND state = 'COMPUTED';

-- LOCK_RUNS
SELECT run_id, year, state, saga_id, dividend_ppm, rebate_ppm, dividend_tax_ppm, rebate_tax_ppm, provider, short_code, currency, line_count, gross_minor, tax_minor, net_minor, lines_sha256, regulator_reference, meeting_reference, proposed_by, reason, proposed_at, approved_by, approval_reason, approved_at, failure_reason, closed_at
FROM dividend_runs
WHERE run_id = ANY(CAST($1 AS text[]))
ORDER BY run_id FOR UPDATE;

-- RUN
SELECT run_id, year, state, saga_id, dividend_ppm, rebate_ppm, dividend_tax_ppm, rebate_tax_ppm, provider, short_code, currency, line_count, gross_minor, tax_minor, net_minor, lines_sha256, regulator_reference, meeting_reference, proposed_by, reason, proposed_at, approved_by, approval_reason, approved_at, failure_reason, closed_at
FROM dividend_runs
WHERE run_id = $1;

-- RUNS
SELECT run_id, year, state, saga_id, dividend_ppm, rebate_ppm, dividend_tax_ppm, rebate_tax_ppm, provider, short_code, currency, line_count, gross_minor, tax_minor, net_minor, lines_sha256, regulator_reference, meeting_reference, proposed_by, reason, proposed_at, approved_by, approval_reason, approved_at, failure_reason, closed_at
FROM dividend_runs
ORDER BY proposed_at DESC, run_id
LIMIT $1;

-- RUN_OF_SAGA
SELECT run_id, saga_id
FROM dividend_runs
WHERE saga_id = ANY(CAST($1 AS text[]));

-- NEXT_OPEN
SELECT run_id, year, state, saga_id, dividend_ppm, rebate_ppm, dividend_tax_ppm, rebate_tax_ppm, provider, short_code, currency, line_count, gross_minor, tax_minor, net_minor, lines_sha256, regulator_reference, meeting_reference, proposed_by, reason, proposed_at, approved_by, approval_reason, approved_at, failure_reason, closed_at
FROM dividend_runs
WHERE state IN ('DECLARED', 'POSTING', 'PAYING') AND run_id > $1
ORDER BY run_id
LIMIT 1
FOR UPDATE SKIP LOCKED;

-- LINES
SELECT line_id, run_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, state, chunk, return_chunk, wave, saga_id, released_at, receipt, failure_reason
FROM dividend_lines
WHERE run_id = $1
ORDER BY line_id;

-- PAGE
SELECT line_id, run_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, state, chunk, return_chunk, wave, saga_id, released_at, receipt, failure_reason
FROM dividend_lines
WHERE run_id = $1 AND line_id > $2 AND (CAST($3 AS text) IS NULL OR state = $3)
ORDER BY line_id
LIMIT $4;

-- SUMS
SELECT state, destination, count(*) AS line_count, sum(gross_minor)::bigint AS gross_minor, sum(tax_minor)::bigint AS tax_minor, sum(net_minor)::bigint AS net_minor
FROM dividend_lines
WHERE run_id = $1 GROUP BY state, destination
ORDER BY state, destination;

-- APPROVE
UPDATE dividend_runs
SET state = 'APPROVED', saga_id = $1, approved_by = $2, approval_reason = $3, approved_at = $4, failure_reason = NULL
WHERE run_id = $5 AND state = 'COMPUTED' AND lower(proposed_by) <> lower($2);

-- REFUSE
UPDATE dividend_runs
SET state = 'REFUSED', failure_reason = $1, closed_at = $2
WHERE run_id = $3 AND state = 'COMPUTED';

-- SET_STATE
UPDATE dividend_runs
SET state = $1
WHERE run_id = $2;

-- CLOSE
UPDATE dividend_runs
SET state = 'CLOSED', closed_at = $1, failure_reason = NULL
WHERE run_id = $2;

-- NOTE_FAILURE
UPDATE dividend_runs
SET failure_reason = $1
WHERE run_id = $2;

-- DECLARED_NOW
UPDATE dividend_runs
SET state = 'DECLARED'
WHERE saga_id = ANY(CAST($1 AS text[])) AND state = 'APPROVED';

-- NOT_DECLARED
UPDATE dividend_runs
SET state = 'COMPUTED', failure_reason = failed.reason, approved_by = NULL, approved_at = NULL, approval_reason = NULL
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS failed (saga_id, reason)
WHERE dividend_runs.saga_id = failed.saga_id AND dividend_runs.state = 'APPROVED';

-- TO_POST
SELECT line_id, run_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, state, chunk, return_chunk, wave, saga_id, released_at, receipt, failure_reason
FROM dividend_lines
WHERE run_id = $1 AND state = 'PENDING' AND chunk IS NULL
ORDER BY line_id
LIMIT $2;

-- TO_RETURN
SELECT line_id, run_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, state, chunk, return_chunk, wave, saga_id, released_at, receipt, failure_reason
FROM dividend_lines
WHERE run_id = $1 AND state = 'RETURNING' AND return_chunk IS NULL
ORDER BY line_id
LIMIT $2;

-- TO_PAY
SELECT line_id, run_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, state, chunk, return_chunk, wave, saga_id, released_at, receipt, failure_reason
FROM dividend_lines
WHERE run_id = $1 AND state = 'POSTED' AND destination = 'MOBILE' AND wave IS NULL
ORDER BY line_id
LIMIT $2;

-- LINES_OF_WAVE
SELECT line_id, run_id, member_id, kind, destination, gross_minor, tax_minor, net_minor, state, chunk, return_chunk, wave, saga_id, released_at, receipt, failure_reason
FROM dividend_lines
WHERE run_id = $1 AND wave = $2 AND state = 'POSTED'
ORDER BY line_id FOR UPDATE;

-- IN_CHUNK
UPDATE dividend_lines
SET chunk = $1
WHERE line_id = ANY(CAST($2 AS text[]));

-- IN_RETURN_CHUNK
UPDATE dividend_lines
SET return_chunk = $1
WHERE line_id = ANY(CAST($2 AS text[]));

-- IN_WAVE
UPDATE dividend_lines
SET wave = $1
WHERE line_id = ANY(CAST($2 AS text[]));

-- INSERT_CHUNK
INSERT INTO dividend_chunks (run_id, kind, chunk, saga_id, line_count, state, released_at) VALUES ($1, $2, $3, $4, $5, 'RELEASED', $6);

-- CHUNKS
SELECT kind, max(chunk) AS last, count(*) FILTER (WHERE state = 'RELEASED') AS open
FROM dividend_chunks
WHERE run_id = $1 GROUP BY kind;

-- END_CHUNK
UPDATE dividend_chunks
SET state = $1, failure_reason = $2, ended_at = $3
WHERE saga_id = $4 AND state = 'RELEASED'
RETURNING run_id, kind, chunk;

-- CHUNK_POSTED
UPDATE dividend_lines
SET state = 'POSTED'
WHERE run_id = $1 AND chunk = $2 AND state = 'PENDING'
RETURNING line_id, member_id, destination, net_minor;

-- CHUNK_FAILED
UPDATE dividend_lines
SET chunk = NULL
WHERE run_id = $1 AND chunk = $2 AND state = 'PENDING';

-- RETURN_POSTED
UPDATE dividend_lines
SET state = 'RETURNED'
WHERE run_id = $1 AND return_chunk = $2 AND state = 'RETURNING';

-- RETURN_FAILED
UPDATE dividend_lines
SET return_chunk = NULL
WHERE run_id = $1 AND return_chunk = $2 AND state = 'RETURNING';

-- WAVES
SELECT run_id, wave, attempt, saga_id, line_count, amount_minor, charge_minor, state, refusal, requested_at, due_at, reserved_at
FROM dividend_waves
WHERE run_id = $1
ORDER BY wave;

-- INSERT_WAVE
INSERT INTO dividend_waves (run_id, wave, attempt, saga_id, line_count, amount_minor, charge_minor, state, requested_at) VALUES ($1, $2, 1, $3, $4, $5, $6, 'REQUESTED', $7);

-- REQUEST_WAVE
UPDATE dividend_waves
SET state = 'REQUESTED', attempt = $1, saga_id = $2, requested_at = $3, due_at = NULL
WHERE run_id = $4 AND wave = $5 AND state = 'WAITING';

-- RESERVE_WAVE
UPDATE dividend_waves
SET state = 'RESERVED', reserved_at = $1, refusal = NULL
WHERE saga_id = $2 AND state = 'REQUESTED'
RETURNING run_id, wave;

-- REFUSE_WAVE
UPDATE dividend_waves
SET state = 'WAITING', refusal = $1, due_at = CAST($2 AS timestamptz) + make_interval(secs => least(CAST($3 AS float8), $4 * power(2, least(attempt - 1, 20))))
WHERE saga_id = $5 AND state = 'REQUESTED'
RETURNING run_id, wave;

-- RELEASE
UPDATE dividend_lines
SET state = 'RELEASED', saga_id = released.saga_id, released_at = $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[])) AS released (line_id, saga_id)
WHERE dividend_lines.line_id = released.line_id AND dividend_lines.state = 'POSTED';

-- LOCK_PAYOUTS
SELECT line_id, run_id, saga_id, state
FROM dividend_lines
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY line_id FOR UPDATE;

-- END_PAYOUTS
UPDATE dividend_lines
SET state = ended.state, receipt = ended.receipt, failure_reason = ended.reason
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[])) AS ended (saga_id, state, receipt, reason)
WHERE dividend_lines.saga_id = ended.saga_id AND dividend_lines.state = 'RELEASED';

-- HAS_OPEN_LINES
SELECT EXISTS (SELECT
FROM dividend_lines
WHERE run_id = $1 AND state IN ('PENDING', 'RELEASED', 'RETURNING')) OR EXISTS (SELECT
FROM dividend_lines
WHERE run_id = $1 AND state = 'POSTED' AND destination = 'MOBILE');

-- RELEASED_LINES
SELECT count(*)
FROM dividend_lines
WHERE run_id = $1 AND state = 'RELEASED';

-- PENDING_LINES
SELECT count(*)
FROM dividend_lines
WHERE run_id = $1 AND state = 'PENDING';
