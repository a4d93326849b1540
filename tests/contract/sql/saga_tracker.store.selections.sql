-- GROUPS
SELECT left(md5(concat_ws(' ', saga_type, phase, step, regexp_replace(regexp_replace(coalesce(reason, ''), '[0-9A-HJKMNP-TV-Z]{26}', '<id>', 'g'), '[0-9]+(\.[0-9]+)?', '<n>', 'g'))), 8) AS group, saga_type AS type, phase, step, regexp_replace(regexp_replace(coalesce(reason, ''), '[0-9A-HJKMNP-TV-Z]{26}', '<id>', 'g'), '[0-9]+(\.[0-9]+)?', '<n>', 'g') AS reason, count(*) AS count, min(coalesce(parked_at, updated_at)) AS oldest_at, min(saga_id) AS example
FROM sagas
WHERE state = 'NEEDS_REVIEW' GROUP BY 1, 2, 3, 4, 5
ORDER BY count DESC, 1
LIMIT $1;

-- CANDIDATES
SELECT saga_id, saga_type, saga_version, partition, version, phase, step, progress
FROM sagas
WHERE (CAST($1 AS text[]) IS NOT NULL OR state = 'NEEDS_REVIEW') AND (CAST($1 AS text[]) IS NULL OR saga_id = ANY(CAST($1 AS text[]))) AND (CAST($2 AS text) IS NULL OR left(md5(concat_ws(' ', saga_type, phase, step, regexp_replace(regexp_replace(coalesce(reason, ''), '[0-9A-HJKMNP-TV-Z]{26}', '<id>', 'g'), '[0-9]+(\.[0-9]+)?', '<n>', 'g'))), 8) = $2) AND (CAST($3 AS text) IS NULL OR step = $3) AND (CAST($4 AS timestamptz) IS NULL OR started_at > $4) AND (CAST($5 AS timestamptz) IS NULL OR started_at < $5)
ORDER BY saga_id
LIMIT $6;
