-- LOG
INSERT INTO operator_log (act_id, at, actor, act, reason, saga_id, plan_id, detail)
SELECT act_id, at, actor, act, reason, saga_id, plan_id, detail
FROM unnest(CAST($1 AS text[]), CAST($2 AS timestamptz[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[])) AS row (act_id, at, actor, act, reason, saga_id, plan_id, detail)
ON CONFLICT DO NOTHING;

-- LOGGED
SELECT act_id, at, actor, act, reason, saga_id, plan_id, detail, seq
FROM operator_log
WHERE (CAST($1 AS text) IS NULL OR saga_id = $1) AND (CAST($2 AS text) IS NULL OR plan_id = $2) AND (CAST($3 AS text) IS NULL OR actor = $3) AND (CAST($4 AS text) IS NULL OR act = $4) AND (CAST($5 AS timestamptz) IS NULL OR at >= $5) AND (CAST($6 AS timestamptz) IS NULL OR at < $6) AND (CAST($7 AS bigint) IS NULL OR seq < $7)
ORDER BY seq DESC
LIMIT $8;
