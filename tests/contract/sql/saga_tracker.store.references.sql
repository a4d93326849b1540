-- INSERT
INSERT INTO saga_references (value, saga_id, kind)
SELECT value, saga_id, kind
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[])) AS row (value, saga_id, kind)
ON CONFLICT DO NOTHING;
