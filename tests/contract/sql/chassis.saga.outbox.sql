-- SAVE
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, partition)
SELECT id, aggregatetype, aggregateid, type, payload, headers, partition
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bytea[]), CAST($6 AS text[]), CAST($7 AS smallint[])) WITH ORDINALITY AS row (id, aggregatetype, aggregateid, type, payload, headers, partition, ordinal)
ORDER BY ordinal
ON CONFLICT (id) DO NOTHING;

-- REMOVE
DELETE
FROM outbox
WHERE id = ANY(CAST($1 AS text[]));

-- STORED
SELECT id
FROM outbox
WHERE id = ANY(CAST($1 AS text[]));

-- LEFTOVERS
SELECT id, aggregatetype, aggregateid, type, payload, headers, partition
FROM outbox
WHERE (CAST($1 AS smallint[]) IS NULL OR partition = ANY(CAST($1 AS smallint[]))) AND created_at <= now() - CAST($2 AS interval)
ORDER BY seq
LIMIT $3;
