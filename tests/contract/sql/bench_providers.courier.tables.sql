-- ADD_BOOKED
INSERT INTO courier_records (id, reference, state)
SELECT id, reference, 'live'
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (id, reference);

-- RECORD_CANCELLED
UPDATE courier_records
SET state = 'cancelled'
WHERE id = ANY(CAST($1 AS text[]));
