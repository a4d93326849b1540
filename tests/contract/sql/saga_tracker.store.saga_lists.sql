-- BOUND
SET LOCAL statement_timeout = 2000;

-- IN_GROUP
left(md5(concat_ws(' ', saga_type, phase, step, regexp_replace(regexp_replace(coalesce(reason, ''), '[0-9A-HJKMNP-TV-Z]{26}', '<id>', 'g'), '[0-9]+(\.[0-9]+)?', '<n>', 'g'))), 8) = $1;

-- WITH_STEP
SELECT state
FROM unnest(CAST($1 AS text[])) AS wanted (state)
WHERE EXISTS (SELECT
FROM rollups
WHERE rollups.state = wanted.state AND step = ANY(CAST($2 AS text[])) AND count > 0 AND (CAST($3 AS text[]) IS NULL OR saga_type = ANY(CAST($3 AS text[]))));
