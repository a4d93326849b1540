-- INSERT
INSERT INTO timeline (saga_id, message_id, occurred_at, kind, type, service, step, attempt, causation_id, late, deadline_at, detail, topic, partition, "offset", recorded_at)
SELECT saga_id, message_id, occurred_at, kind, type, service, step, attempt, causation_id, late, deadline_at, detail, topic, partition, "offset", $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS timestamptz[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS smallint[]), CAST($10 AS text[]), CAST($11 AS boolean[]), CAST($12 AS timestamptz[]), CAST($13 AS text[]), CAST($14 AS text[]), CAST($15 AS smallint[]), CAST($16 AS bigint[])) WITH ORDINALITY AS row (saga_id, message_id, occurred_at, kind, type, service, step, attempt, causation_id, late, deadline_at, detail, topic, partition, "offset", ordinal)
ORDER BY ordinal
ON CONFLICT DO NOTHING;

-- POSITIONS
SELECT saga_id, topic, partition, "offset"
FROM timeline JOIN unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[])) AS row (saga_id, type, topic) USING (saga_id, type, topic)
WHERE "offset" IS NOT NULL;

-- TYPES
SELECT saga_id, type
FROM timeline JOIN unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (saga_id, type) USING (saga_id, type);

-- KNOWN
SELECT message_id
FROM timeline JOIN unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (saga_id, message_id) USING (saga_id, message_id);
