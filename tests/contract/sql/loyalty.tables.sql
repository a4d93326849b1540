-- LOCK_ACCOUNTS
SELECT customer_id, balance
FROM accounts
WHERE customer_id = ANY(CAST($1 AS text[]))
ORDER BY customer_id FOR UPDATE;

-- LOCK_ALL_ACCOUNTS
SELECT customer_id
FROM accounts
WHERE customer_id = ANY(CAST($1 AS text[]) || ARRAY(SELECT customer_id
FROM burns
WHERE saga_id = ANY(CAST($2 AS text[]))))
ORDER BY customer_id FOR UPDATE;

-- LOCK_BURNS
SELECT saga_id, step, customer_id, points, state
FROM burns
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step FOR UPDATE;

-- MOVE
UPDATE accounts
SET balance = accounts.balance + row.points
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (customer_id, points)
WHERE accounts.customer_id = row.customer_id;

-- BURN
INSERT INTO burns (saga_id, step, customer_id, points, state)
SELECT saga_id, step, customer_id, points, 'BURNED'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS bigint[])) AS row (saga_id, step, customer_id, points);

-- RESTORE
UPDATE burns
SET state = 'RESTORED', updated_at = now()
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (saga_id, step)
WHERE burns.saga_id = row.saga_id AND burns.step = row.step;

-- OPEN_CREDITED
WITH opened AS (INSERT INTO accounts (customer_id, granted, balance, version)
SELECT customer_id, 0, 0, 1
FROM unnest(CAST($1 AS text[])) AS row (customer_id)
ORDER BY customer_id
ON CONFLICT (customer_id) DO NOTHING
RETURNING customer_id)
INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
SELECT 'restore_loyalty_points', '', customer_id, 'OPENED', 0, 'Its points came back with a return, and it was not here.'
FROM opened;

-- CREDIT
INSERT INTO credits (saga_id, step, order_id, customer_id, points)
SELECT saga_id, step, order_id, customer_id, points
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bigint[])) AS row (saga_id, step, order_id, customer_id, points);

-- LOCK_KEY
SELECT pg_advisory_xact_lock(hashtextextended(CAST($1 AS text) || ' ' || CAST($2 AS text), 0));

-- MOVEMENTS_OF_KEY
SELECT customer_id, kind, points, reason
FROM account_movements
WHERE made_by = $1 AND idempotency_key = $2;

-- OPEN
WITH opened AS (INSERT INTO accounts (customer_id, granted, balance, version)
SELECT customer_id, points, points, 1
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (customer_id, points)
ORDER BY customer_id
ON CONFLICT (customer_id) DO NOTHING
RETURNING customer_id, granted)
INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
SELECT CAST($3 AS text), '', customer_id, 'OPENED', granted, CAST($4 AS text)
FROM opened
RETURNING customer_id;

-- LOCK_BALANCES
SELECT customer_id, granted, balance, coalesce((SELECT points
FROM account_movements AS movement
WHERE movement.customer_id = accounts.customer_id AND kind = 'OPENED'), 0) AS opened
FROM accounts
WHERE customer_id = ANY(CAST($1 AS text[]))
ORDER BY customer_id FOR UPDATE;

-- ADD_MOVEMENTS
WITH row AS (SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS text[])) AS row (customer_id, kind, points, reason)), recorded AS (INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
SELECT CAST($5 AS text), CAST($6 AS text), customer_id, kind, points, reason
FROM row) UPDATE accounts
SET granted = granted + row.points, balance = balance + row.points, version = version + 1
FROM row
WHERE accounts.customer_id = row.customer_id;

-- FIND
SELECT customer_id, granted, balance, coalesce((SELECT points
FROM account_movements AS movement
WHERE movement.customer_id = accounts.customer_id AND kind = 'OPENED'), 0) AS opened
FROM accounts
WHERE customer_id = $1;
