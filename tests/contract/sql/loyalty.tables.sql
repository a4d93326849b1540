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
SELECT saga_id, customer_id, points, state
FROM burns
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id FOR UPDATE;

-- MOVE
UPDATE accounts
SET balance = accounts.balance + row.points
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (customer_id, points)
WHERE accounts.customer_id = row.customer_id;

-- BURN
INSERT INTO burns (saga_id, customer_id, points, state)
SELECT saga_id, customer_id, points, 'BURNED'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[])) AS row (saga_id, customer_id, points);

-- RESTORE
UPDATE burns
SET state = 'RESTORED', updated_at = now()
WHERE saga_id = ANY(CAST($1 AS text[]));

-- GRANT
INSERT INTO accounts (customer_id, granted, balance)
SELECT customer_id, points, points
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (customer_id, points)
ORDER BY customer_id
ON CONFLICT (customer_id)
DO UPDATE
SET granted = accounts.granted + excluded.balance - accounts.balance, balance = excluded.balance;

-- FIND
SELECT customer_id, granted, balance
FROM accounts
WHERE customer_id = $1;
