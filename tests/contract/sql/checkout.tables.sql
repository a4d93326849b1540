-- TRY_LOCK
SELECT ordinal
FROM unnest(CAST($1 AS bigint[])) WITH ORDINALITY AS row (lock, ordinal)
WHERE pg_try_advisory_xact_lock(lock);

-- RESPONSES
SELECT k.client_id, k.key, k.fingerprint, k.order_id, k.status, k.body
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (client_id, key) JOIN idempotency_keys AS k USING (client_id, key);

-- PRODUCTS
SELECT sku, name, price_minor, currency
FROM products
WHERE sku = ANY(CAST($1 AS text[]));

-- INSERT_ORDERS
WITH row AS (SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bytea[]), CAST($4 AS text[]), CAST($5 AS smallint[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS bigint[]), CAST($11 AS bigint[]), CAST($12 AS bigint[]), CAST($13 AS bigint[]), CAST($14 AS bigint[]), CAST($15 AS text[])) AS row (client_id, key, fingerprint, order_id, status, body, customer_id, currency, lines, points_to_burn, total_minor, payable_minor, rate_points, rate_minor, destination)), claimed AS (INSERT INTO idempotency_keys (client_id, key, fingerprint, order_id, status, body, created_at)
SELECT client_id, key, fingerprint, order_id, status, body, $16
FROM row)
INSERT INTO orders (order_id, customer_id, client_id, currency, lines, points_to_burn, total_minor, payable_minor, rate_points, rate_minor, destination, state, submitted_at)
SELECT order_id, customer_id, client_id, currency, CAST(lines AS jsonb), points_to_burn, total_minor, payable_minor, rate_points, rate_minor, destination, 'PENDING', $16
FROM row;

-- DECIDE
UPDATE orders
SET state = row.state, failure_cause = row.failure_cause, failure_reason = row.failure_reason, decided_at = row.decided_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS timestamptz[])) AS row (order_id, state, failure_cause, failure_reason, decided_at)
WHERE orders.order_id = row.order_id AND orders.state = 'PENDING';

-- ORDER
SELECT order_id, customer_id, state, currency, lines, points_to_burn, total_minor, payable_minor, failure_cause, failure_reason, submitted_at, cancellation_requested_at, decided_at
FROM orders
WHERE order_id = $1;

-- REQUEST_CANCELLATION
UPDATE orders
SET cancellation_requested_at = $1
WHERE order_id = $2 AND state = 'PENDING' AND cancellation_requested_at IS NULL;

-- UPSERT_PRODUCTS
INSERT INTO products (sku, name, price_minor, currency)
SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS text[])) AS row (sku, name, price_minor, currency)
ORDER BY sku
ON CONFLICT (sku)
DO UPDATE
SET name = excluded.name, price_minor = excluded.price_minor, currency = excluded.currency
WHERE (products.name, products.price_minor, products.currency) IS DISTINCT
FROM (excluded.name, excluded.price_minor, excluded.currency);

-- OVERDUE
SELECT 'order', count(*)
FROM orders
WHERE state = 'PENDING' AND submitted_at < now() - interval '10 minutes' UNION ALL
SELECT 'return_order', count(*)
FROM returns
WHERE decided_at IS NULL AND requested_at < now() - interval '10 minutes';

-- CATALOGUE_PAGE
SELECT sku, name, price_minor, currency
FROM products
WHERE sku > $1
ORDER BY sku
LIMIT $2;
