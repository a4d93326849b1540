-- STEP_COUNTS
SELECT saga_type AS type, state, step, CAST(sum(count) AS bigint) AS count, min(minute) AS oldest_at
FROM rollups
WHERE state = ANY(CAST($1 AS text[])) AND count > 0 GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;

-- OUTCOMES
SELECT saga_type AS type, state, bucket, CAST(sum(count) AS bigint) AS count
FROM rollups
WHERE minute >= $1 AND state = ANY(CAST($2 AS text[])) AND count > 0 GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;

-- MINUTES
SELECT minute, saga_type AS type, state, CAST(sum(count) AS bigint) AS count
FROM rollups
WHERE minute >= $1 AND state = ANY(CAST($2 AS text[])) AND count > 0 AND (CAST($3 AS text) IS NULL OR saga_type = $3) GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;

-- OPEN
SELECT (SELECT count(*)
FROM (SELECT
FROM sagas
WHERE awaits_since IS NOT NULL
LIMIT $1) AS few) AS awaiting, (SELECT min(awaits_since)
FROM sagas
WHERE awaits_since IS NOT NULL) AS awaiting_since, (SELECT count(*)
FROM (SELECT
FROM sagas
WHERE contradicted_at IS NOT NULL AND settled_at IS NULL
LIMIT $1) AS few) AS contradicted, (SELECT min(contradicted_at)
FROM sagas
WHERE contradicted_at IS NOT NULL AND settled_at IS NULL) AS contradicted_since, (SELECT count(*)
FROM (SELECT
FROM dead_letters
WHERE open
LIMIT $1) AS few) AS letters, (SELECT min(recorded_at)
FROM dead_letters
WHERE open) AS letters_since;

-- PLANS
SELECT state, count(*) AS count, min(planned_at) AS oldest_at
FROM plans
WHERE state IN ('APPLYING', 'PAUSED') OR (state = 'PLANNED' AND planned_at >= $1) GROUP BY 1
ORDER BY 1;
