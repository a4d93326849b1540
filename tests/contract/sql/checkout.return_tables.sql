-- LOCK_ORDERS
SELECT order_id, customer_id, state, currency, lines, points_to_burn, total_minor, payable_minor, decided_at
FROM orders
WHERE order_id = ANY(CAST($1 AS text[]))
ORDER BY order_id FOR UPDATE;

-- COUNTED_RETURNS
SELECT order_id, lines, received, refund_minor, points_minor, points
FROM returns
WHERE order_id = ANY(CAST($1 AS text[])) AND state IN ('APPROVED', 'ARRIVED', 'COMPLETED')
ORDER BY return_id;

-- DECIDE_RETURNS
INSERT INTO returns (return_id, order_id, customer_id, state, lines, currency, refund_minor, points_minor, points, reason, requested_at, approved_at)
SELECT return_id, order_id, customer_id, state, CAST(lines AS jsonb), currency, refund_minor, points_minor, points, reason, requested_at, approved_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS bigint[]), CAST($9 AS bigint[]), CAST($10 AS text[]), CAST($11 AS timestamptz[]), CAST($12 AS timestamptz[])) AS row (return_id, order_id, customer_id, state, lines, currency, refund_minor, points_minor, points, reason, requested_at, approved_at)
ON CONFLICT (return_id)
DO UPDATE
SET state = excluded.state, lines = excluded.lines, refund_minor = excluded.refund_minor, points_minor = excluded.points_minor, points = excluded.points, approved_at = excluded.approved_at
WHERE returns.state = 'REQUESTED';

-- WITHDRAW
UPDATE returns
SET state = 'WITHDRAWN', refund_minor = 0, points_minor = 0, points = 0
FROM unnest(CAST($1 AS text[])) AS row (return_id)
WHERE returns.return_id = row.return_id AND returns.state = 'APPROVED';

-- ARRIVE
UPDATE returns
SET state = CASE returns.state WHEN 'COMPLETED' THEN 'COMPLETED' ELSE 'ARRIVED' END, received = CAST(row.received AS jsonb), refund_minor = row.refund_minor, points_minor = row.points_minor, points = row.points
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS bigint[]), CAST($5 AS bigint[])) AS row (return_id, received, refund_minor, points_minor, points)
WHERE returns.return_id = row.return_id AND returns.state IN ('REQUESTED', 'APPROVED', 'ARRIVED', 'COMPLETED');

-- COMPLETE
UPDATE returns
SET state = 'COMPLETED', decided_at = row.decided_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS timestamptz[])) AS row (return_id, decided_at)
WHERE returns.return_id = row.return_id AND returns.decided_at IS NULL;

-- FAIL
UPDATE returns
SET state = 'FAILED', refund_minor = 0, points_minor = 0, points = 0, decided_at = row.decided_at, failure_cause = row.failure_cause, failure_reason = row.failure_reason
FROM unnest(CAST($1 AS text[]), CAST($2 AS timestamptz[]), CAST($3 AS text[]), CAST($4 AS text[])) AS row (return_id, decided_at, failure_cause, failure_reason)
WHERE returns.return_id = row.return_id AND returns.decided_at IS NULL AND returns.state <> 'ARRIVED';

-- ORDER
SELECT order_id, customer_id, state, currency, lines, points_to_burn, total_minor, payable_minor, decided_at
FROM orders
WHERE order_id = $1;

-- COUNTED_OF_ORDER
SELECT order_id, lines, received, refund_minor, points_minor, points
FROM returns
WHERE order_id = $1 AND state IN ('APPROVED', 'ARRIVED', 'COMPLETED')
ORDER BY return_id;

-- INSERT_REQUESTED
WITH claimed AS (INSERT INTO idempotency_keys (client_id, key, fingerprint, order_id, status, body, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7))
INSERT INTO returns (return_id, order_id, customer_id, lines, currency, reason, requested_at, state, refund_minor, points_minor, points) VALUES ($4, $8, $9, CAST($10 AS jsonb), $11, $12, $7, 'REQUESTED', 0, 0, 0);

-- RETURN
SELECT return_id, order_id, customer_id, state, lines, received, currency, refund_minor, points_minor, points, reason, requested_at, approved_at, cancellation_requested_at, decided_at, failure_cause, failure_reason
FROM returns
WHERE return_id = $1;

-- RETURNS_OF_ORDER
SELECT return_id, order_id, customer_id, state, lines, received, currency, refund_minor, points_minor, points, reason, requested_at, approved_at, cancellation_requested_at, decided_at, failure_cause, failure_reason
FROM returns
WHERE order_id = $1
ORDER BY return_id;

-- REQUEST_CANCELLATION
UPDATE returns
SET cancellation_requested_at = $1
WHERE return_id = $2 AND state IN ('REQUESTED', 'APPROVED') AND cancellation_requested_at IS NULL;
