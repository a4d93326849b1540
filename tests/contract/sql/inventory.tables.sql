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
SELECT saga_id, skus, quantities, state
FROM reservations
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id FOR UPDATE;

-- MOVE
UPDATE stock
SET on_hand = stock.on_hand + row.units
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (sku, units)
WHERE stock.sku = row.sku;

-- RESERVE
INSERT INTO reservations (saga_id, skus, quantities, state)
SELECT saga_id, CAST(skus AS text[]), CAST(quantities AS bigint[]), 'RESERVED'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[])) AS row (saga_id, skus, quantities);

-- RELEASE
UPDATE reservations
SET state = 'RELEASED', updated_at = now()
WHERE saga_id = ANY(CAST($1 AS text[]));

-- RECEIVE
INSERT INTO stock (sku, received, on_hand)
SELECT sku, units, units
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS row (sku, units)
ORDER BY sku
ON CONFLICT (sku)
DO UPDATE
SET received = stock.received + excluded.on_hand - stock.on_hand, on_hand = excluded.on_hand;

-- FIND
SELECT sku, received, on_hand
FROM stock
WHERE sku = $1;
