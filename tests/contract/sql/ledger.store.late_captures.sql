-- RECORD
INSERT INTO late_captures AS known (saga_id, request, accepted_by, has_failed)
SELECT saga_id, request, accepted_by, has_failed
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS boolean[])) AS row (saga_id, request, accepted_by, has_failed)
ORDER BY saga_id
ON CONFLICT (saga_id)
DO UPDATE
SET request = coalesce(known.request, excluded.request), accepted_by = coalesce(known.accepted_by, excluded.accepted_by), has_failed = known.has_failed OR excluded.has_failed
RETURNING saga_id, request, accepted_by, has_failed;
