-- ADD
INSERT INTO rollups (minute, partition, saga_type, state, step, bucket, count)
SELECT minute, partition, saga_type, state, step, bucket, count
FROM unnest(CAST($1 AS timestamptz[]), CAST($2 AS smallint[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS smallint[]), CAST($7 AS integer[])) AS row (minute, partition, saga_type, state, step, bucket, count)
ORDER BY minute, partition, saga_type, state, step, bucket
ON CONFLICT (minute, partition, saga_type, state, step, bucket)
DO UPDATE
SET count = rollups.count + excluded.count;

-- REMOVE_EMPTY
DELETE
FROM rollups
WHERE state = ANY(CAST($1 AS text[])) AND count = 0 AND partition = ANY(CAST($2 AS smallint[]));

-- REMOVE
DELETE
FROM rollups
WHERE state = ANY(CAST($1 AS text[])) AND partition = ANY(CAST($2 AS smallint[]));

-- COUNT_AGAIN
INSERT INTO rollups (minute, partition, saga_type, state, step, bucket, count)
SELECT date_trunc('minute', CASE WHEN state = ANY(CAST($1 AS text[])) THEN coalesce(finished_at, started_at) WHEN state = 'NEEDS_REVIEW' THEN coalesce(parked_at, started_at) ELSE started_at END, 'UTC') AS minute, partition, saga_type, state, step, CASE WHEN state = ANY(CAST($1 AS text[])) AND finished_at IS NOT NULL THEN 1 + width_bucket(CAST(extract(epoch
FROM finished_at - started_at) AS double precision), CAST($2 AS double precision[])) ELSE 0 END AS bucket, count(*) AS count
FROM sagas
WHERE state = ANY(CAST($3 AS text[])) AND partition = ANY(CAST($4 AS smallint[])) GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (minute, partition, saga_type, state, step, bucket)
DO UPDATE
SET count = excluded.count;

-- DIFFERENT
SELECT minute, partition, saga_type, state, step, bucket, coalesce(kept.count, 0) AS kept, coalesce(found.count, 0) AS found
FROM (SELECT *
FROM rollups
WHERE state = ANY(CAST($1 AS text[])) AND count <> 0 AND partition = ANY(CAST($2 AS smallint[]))) AS kept FULL JOIN (SELECT date_trunc('minute', CASE WHEN state = ANY(CAST($3 AS text[])) THEN coalesce(finished_at, started_at) WHEN state = 'NEEDS_REVIEW' THEN coalesce(parked_at, started_at) ELSE started_at END, 'UTC') AS minute, partition, saga_type, state, step, CASE WHEN state = ANY(CAST($3 AS text[])) AND finished_at IS NOT NULL THEN 1 + width_bucket(CAST(extract(epoch
FROM finished_at - started_at) AS double precision), CAST($4 AS double precision[])) ELSE 0 END AS bucket, count(*) AS count
FROM sagas
WHERE state = ANY(CAST($1 AS text[])) AND partition = ANY(CAST($2 AS smallint[])) GROUP BY 1, 2, 3, 4, 5, 6) AS found USING (minute, partition, saga_type, state, step, bucket)
WHERE coalesce(kept.count, 0) <> coalesce(found.count, 0)
LIMIT $5;
