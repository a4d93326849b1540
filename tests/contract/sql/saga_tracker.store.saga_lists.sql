-- WITH_STEP
SELECT state
FROM unnest(CAST($1 AS text[])) AS wanted (state)
WHERE EXISTS (SELECT
FROM rollups
WHERE rollups.state = wanted.state AND step = ANY(CAST($2 AS text[])) AND count > 0 AND (CAST($3 AS text[]) IS NULL OR saga_type = ANY(CAST($3 AS text[]))));
