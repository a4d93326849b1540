-- LOCK_STOCK
SELECT sku, on_hand
FROM stock
WHERE sku = ANY(CAST($1 AS text[]))
ORDER BY sku FOR UPDATE;

-- LOCK_ALL_STOCK
SELECT sku
FROM stock
WHERE sku = ANY(CAST($1 AS text[]) || ARRAY(SELECT unnest(skus)
FROM reservations
WHERE saga_id = ANY(CAST($2 AS text[]))))
ORDER BY sku FOR UPDATE;

-- LOCK_RESERVATIONS
SELECT saga_id, step, skus, quantities, state
FROM reservations
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, step FOR UPDATE;

-- MOVE
UPDATE stock
SET on_hand = stock.on_hand + row.units
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (sku, units)
WHERE stock.sku = row.sku;

-- RESERVE
INSERT INTO reservations (saga_id, step, skus, quantities, state)
SELECT saga_id, step, CAST(skus AS text[]), CAST(quantities AS bigint[]), 'RESERVED'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[])) AS row (saga_id, step, skus, quantities);

-- RELEASE
UPDATE reservations
SET state = 'RELEASED', updated_at = now()
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (saga_id, step)
WHERE reservations.saga_id = row.saga_id AND reservations.step = row.step;

-- OPEN_RESTOCKED
WITH opened AS (INSERT INTO stock (sku, received, on_hand, version)
SELECT sku, 0, 0, 1
FROM unnest(CAST($1 AS text[])) AS row (sku)
ORDER BY sku
ON CONFLICT (sku) DO NOTHING
RETURNING sku)
INSERT INTO stock_movements (made_by, idempotency_key, sku, kind, units, reason)
SELECT 'restock_inventory', '', sku, 'OPENED', 0, 'It came back with a return and had no stock here.'
FROM opened;

-- RESTOCK
INSERT INTO restocks (saga_id, step, sku, units)
SELECT saga_id, step, sku, units
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS bigint[])) AS row (saga_id, step, sku, units);

-- LOCK_KEY
SELECT pg_advisory_xact_lock(hashtextextended(CAST($1 AS text) || ' ' || CAST($2 AS text), 0));

-- MOVEMENTS_OF_KEY
SELECT sku, kind, units, reason
FROM stock_movements
WHERE made_by = $1 AND idempotency_key = $2;

-- OPEN
WITH opened AS (INSERT INTO stock (sku, received, on_hand, version)
SELECT sku, units, units, 1
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (sku, units)
ORDER BY sku
ON CONFLICT (sku) DO NOTHING
RETURNING sku, received)
INSERT INTO stock_movements (made_by, idempotency_key, sku, kind, units, reason)
SELECT CAST($3 AS text), '', sku, 'OPENED', received, CAST($4 AS text)
FROM opened
RETURNING sku;

-- LOCK_BALANCES
SELECT sku, received, on_hand, coalesce((SELECT units
FROM stock_movements AS movement
WHERE movement.sku = stock.sku AND kind = 'OPENED'), 0) AS opened
FROM stock
WHERE sku = ANY(CAST($1 AS text[]))
ORDER BY sku FOR UPDATE;

-- ADD_MOVEMENTS
WITH row AS (SELECT *
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS text[])) AS row (sku, kind, units, reason)), recorded AS (INSERT INTO stock_movements (made_by, idempotency_key, sku, kind, units, reason)
SELECT CAST($5 AS text), CAST($6 AS text), sku, kind, units, reason
FROM row) UPDATE stock
SET received = received + row.units, on_hand = on_hand + row.units, version = version + 1
FROM row
WHERE stock.sku = row.sku;

-- FIND
SELECT sku, received, on_hand, coalesce((SELECT units
FROM stock_movements AS movement
WHERE movement.sku = stock.sku AND kind = 'OPENED'), 0) AS opened
FROM stock
WHERE sku = $1;
