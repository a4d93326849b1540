-- SAVE
INSERT INTO deferred (message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, redrive, behind, created_at)
SELECT message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, redrive, behind, $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS smallint[]), CAST($7 AS text[]), CAST($8 AS bytea[]), CAST($9 AS smallint[]), CAST($10 AS timestamptz[]), CAST($11 AS text[]), CAST($12 AS smallint[]), CAST($13 AS boolean[])) WITH ORDINALITY AS row (message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, redrive, behind, ordinal)
ORDER BY ordinal
ON CONFLICT (message_id, handler)
DO UPDATE
SET attempt = excluded.attempt, due_at = excluded.due_at, reason = excluded.reason, redrive = excluded.redrive, behind = excluded.behind;

-- REMOVE
DELETE
FROM deferred USING unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (message_id, handler)
WHERE deferred.message_id = row.message_id AND deferred.handler = row.handler;

-- RENAME
UPDATE deferred
SET message_id = $1, handler = $2
WHERE message_id = $3 AND handler = $4;

-- DUE
SELECT message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, redrive, behind
FROM deferred
WHERE partition = ANY(CAST($1 AS smallint[])) AND due_at <= $2
ORDER BY due_at, place
LIMIT $3;

-- WAKE_SETTLED
UPDATE deferred
SET due_at = $1
FROM effects
WHERE deferred.partition = ANY(CAST($2 AS smallint[])) AND deferred.due_at IS NULL AND effects.saga_id = deferred.saga_id AND effects.step = deferred.handler AND effects.state <> 'STARTED';

-- LOAD
SELECT message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, redrive, behind
FROM deferred
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id, place FOR UPDATE;
