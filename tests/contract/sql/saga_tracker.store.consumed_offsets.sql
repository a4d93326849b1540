-- LOAD
SELECT topic, partition, next_offset, topic_id
FROM consumed_offsets JOIN unnest(CAST($1 AS text[]), CAST($2 AS smallint[])) AS row (topic, partition) USING (topic, partition);

-- LOCK
SELECT topic, partition, next_offset, topic_id
FROM consumed_offsets JOIN unnest(CAST($1 AS text[]), CAST($2 AS smallint[])) AS row (topic, partition) USING (topic, partition)
ORDER BY topic, partition
FOR UPDATE OF consumed_offsets;

-- MOVE
UPDATE consumed_offsets
SET next_offset = row.next_offset
FROM unnest(CAST($1 AS text[]), CAST($2 AS smallint[]), CAST($3 AS bigint[]), CAST($4 AS bigint[])) AS row (topic, partition, next_offset, stored)
WHERE consumed_offsets.topic = row.topic AND consumed_offsets.partition = row.partition AND consumed_offsets.next_offset = row.stored;

-- BEGIN
INSERT INTO consumed_offsets (topic, partition, next_offset)
SELECT topic, partition, next_offset
FROM unnest(CAST($1 AS text[]), CAST($2 AS smallint[]), CAST($3 AS bigint[])) AS row (topic, partition, next_offset)
ON CONFLICT DO NOTHING;

-- IDENTIFY
UPDATE consumed_offsets
SET topic_id = row.topic_id
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[])) AS row (topic, topic_id)
WHERE consumed_offsets.topic = row.topic AND consumed_offsets.topic_id IS NULL;

-- DISCARD
DELETE
FROM consumed_offsets
WHERE topic = ANY(CAST($1 AS text[]));
