-- INSERT_PLAN
INSERT INTO plans (plan_id, act, selection, state, planned_by, planned_at) VALUES ($1, $2, CAST($3 AS jsonb), 'PLANNED', $4, $5);

-- INSERT_ITEMS
INSERT INTO plan_items (plan_id, saga_id, partition, revision, step, runs, state, detail, done_at)
SELECT $1, saga_id, partition, revision, step, runs, state, detail, done_at
FROM unnest(CAST($2 AS text[]), CAST($3 AS smallint[]), CAST($4 AS integer[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS timestamptz[])) AS row (saga_id, partition, revision, step, runs, state, detail, done_at);

-- APPLY
UPDATE plans
SET state = CASE WHEN EXISTS (SELECT
FROM plan_items AS item
WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED') THEN 'APPLYING' ELSE 'APPLIED' END, finished_at = CASE WHEN EXISTS (SELECT
FROM plan_items AS item
WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED') THEN NULL ELSE CAST($1 AS timestamptz) END, applied_by = $2, reason = $3, applied_at = $1, next_at = $1, rate_per_s = $4
WHERE plan_id = $5 AND state = 'PLANNED' AND (act NOT LIKE 'RESOLVE%%' OR planned_by <> $2);

-- ONE_PLAN
SELECT plan_id, act, selection, state, planned_by, planned_at, applied_by, reason, applied_at, finished_at, rate_per_s, coalesce((SELECT jsonb_object_agg(item.state, item.count)
FROM (SELECT state, count(*)
FROM plan_items
WHERE plan_id = plans.plan_id GROUP BY state) AS item), '{}') AS counts
FROM plans
WHERE plan_id = $1;

-- LATEST_PLANS
SELECT plan_id, act, selection, state, planned_by, planned_at, applied_by, reason, applied_at, finished_at, rate_per_s, coalesce((SELECT jsonb_object_agg(item.state, item.count)
FROM (SELECT state, count(*)
FROM plan_items
WHERE plan_id = plans.plan_id GROUP BY state) AS item), '{}') AS counts
FROM plans
ORDER BY planned_at DESC
LIMIT $1;

-- ITEMS
SELECT saga_id, partition, revision, step, runs, state, detail, done_at
FROM plan_items
WHERE plan_id = $1 AND saga_id > $2 AND (CAST($3 AS text) IS NULL OR state = $3)
ORDER BY saga_id
LIMIT $4;

-- LOCK_PLAN
SELECT plan_id, act, reason, planned_by, applied_by, rate_per_s
FROM plans
WHERE state = 'APPLYING' AND next_at <= $1 AND act = ANY(CAST($2 AS text[])) AND EXISTS (SELECT
FROM plan_items AS item
WHERE item.plan_id = plans.plan_id AND item.state = 'PLANNED' AND item.partition = ANY(CAST($3 AS smallint[])))
ORDER BY applied_at
LIMIT 1
FOR UPDATE SKIP LOCKED;

-- NEXT_ITEMS
SELECT saga_id, partition, revision, step, runs, state
FROM plan_items
WHERE plan_id = $1 AND state = 'PLANNED' AND partition = ANY(CAST($2 AS smallint[]))
ORDER BY saga_id
LIMIT $3;

-- FINISH_ITEMS
UPDATE plan_items
SET state = row.state, detail = row.detail, done_at = $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[])) AS row (saga_id, state, detail)
WHERE plan_items.plan_id = $5 AND plan_items.saga_id = row.saga_id;

-- MOVE_PLAN
UPDATE plans
SET next_at = $1
WHERE plan_id = $2;

-- FINISH_PLAN
UPDATE plans
SET state = 'APPLIED', finished_at = $1
WHERE plan_id = $2 AND NOT EXISTS (SELECT
FROM plan_items AS item
WHERE item.plan_id = $2 AND item.state = 'PLANNED');

-- LOG
INSERT INTO operator_log (act_id, at, actor, act, reason, saga_id, plan_id, detail)
SELECT act_id, at, actor, act, reason, saga_id, plan_id, detail
FROM unnest(CAST($1 AS text[]), CAST($2 AS timestamptz[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[])) AS row (act_id, at, actor, act, reason, saga_id, plan_id, detail)
ON CONFLICT DO NOTHING;

-- LOGGED
SELECT act_id, at, actor, act, reason, saga_id, plan_id, detail
FROM operator_log
WHERE (CAST($1 AS text) IS NULL OR saga_id = $1) AND (CAST($2 AS text) IS NULL OR plan_id = $2)
ORDER BY seq DESC
LIMIT $3;
