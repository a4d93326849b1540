-- RAISE
INSERT INTO watermarks (partition, recorded_until)
SELECT partition, recorded_until
FROM unnest(CAST($1 AS smallint[]), CAST($2 AS timestamptz[])) AS row (partition, recorded_until)
ON CONFLICT (partition)
DO UPDATE
SET recorded_until = greatest(watermarks.recorded_until, excluded.recorded_until);
