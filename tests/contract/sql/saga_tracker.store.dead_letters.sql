-- SAVE
INSERT INTO dead_letters (topic, partition, "offset", letter_id, message_id, saga_id, service, step, type, reason, redrive, open, headers, body, recorded_at)
SELECT topic, partition, "offset", letter_id, message_id, saga_id, service, step, type, reason, redrive, open, CAST(headers AS jsonb), CAST(body AS jsonb), $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS smallint[]), CAST($4 AS bigint[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS smallint[]), CAST($13 AS boolean[]), CAST($14 AS text[]), CAST($15 AS text[])) AS row (topic, partition, "offset", letter_id, message_id, saga_id, service, step, type, reason, redrive, open, headers, body)
ON CONFLICT DO NOTHING;

-- OPEN
UPDATE dead_letters
SET open = true, step = NULL
WHERE saga_id = ANY(CAST($1 AS text[])) AND resolution IS NULL AND (step IS NULL OR topic = service || '.dlq' AND (saga_id, service) IN (SELECT *
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[])))) AND (saga_id, service) NOT IN (SELECT *
FROM unnest(CAST($4 AS text[]), CAST($5 AS text[])));

-- RESOLVE
UPDATE dead_letters
SET open = false, resolution = $1, resolved_by = row.actor, resolved_why = row.reason, resolved_at = $2
FROM unnest(CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[])) AS row (saga_id, actor, reason)
WHERE dead_letters.saga_id = row.saga_id AND resolution IS NULL;

-- UNCLEAR
SELECT saga_id, service, 1 + greatest(max(redrive), count(DISTINCT resolved_at) FILTER (WHERE resolution = 'REDRIVEN')) AS number
FROM dead_letters
WHERE saga_id = ANY(CAST($1 AS text[])) AND step IS NULL GROUP BY saga_id, service HAVING bool_or(resolution IS NULL)
ORDER BY saga_id, service;

-- SHOWN
SELECT letter.*, sagas.state AS saga_state
FROM dead_letters AS letter LEFT JOIN sagas USING (saga_id)
WHERE letter.letter_id = $1
ORDER BY letter.recorded_at, letter.topic, letter.partition, letter."offset"
LIMIT 1;

-- CLOSE
UPDATE dead_letters
SET open = false, resolution = 'CLOSED', resolved_by = $1, resolved_why = $2, resolved_at = $3
WHERE letter_id = ANY(CAST($4 AS text[])) AND resolution IS NULL
RETURNING letter_id, saga_id, service, step, type, partition;
