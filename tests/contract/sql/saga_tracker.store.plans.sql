-- INSERT_PLAN
INSERT INTO plans (plan_id, act, selection, state, planned_by, planned_at, needs_approval) VALUES ($1, $2, CAST($3 AS jsonb), 'PLANNED', $4, $5, $6);

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
WHERE plan_id = $5 AND state = 'PLANNED' AND (act NOT LIKE 'RESOLVE%%' OR lower(btrim($2)) <> lower(btrim(planned_by))) AND (NOT needs_approval OR approved_by IS NOT NULL);

-- APPROVE
UPDATE plans
SET approved_by = $1, approved_at = $2, approval_reason = $3
WHERE plan_id = $4 AND state = 'PLANNED' AND needs_approval AND approved_by IS NULL AND lower(btrim($1)) <> lower(btrim(planned_by));

-- PAUSE
UPDATE plans
SET state = 'PAUSED'
WHERE plan_id = $1 AND state = 'APPLYING';

-- RESUME
UPDATE plans
SET state = 'APPLYING', next_at = greatest(next_at, $1)
WHERE plan_id = $2 AND state = 'PAUSED';

-- STOP
UPDATE plans
SET state = 'STOPPED', finished_at = $1
WHERE plan_id = $2 AND state IN ('PLANNED', 'APPLYING', 'PAUSED');

-- STOP_ITEMS
UPDATE plan_items
SET state = 'STOPPED', done_at = $1
WHERE plan_id = $2 AND state = 'PLANNED';

-- COUNT_PARKED_AGAIN
SELECT count(*)
FROM plan_items AS item JOIN sagas USING (saga_id)
WHERE item.plan_id = $1 AND item.state = 'DONE' AND sagas.state = 'NEEDS_REVIEW' AND sagas.parked_at > item.done_at;

-- OUTCOMES
SELECT state, runs, CASE WHEN state = 'NOT_RUNNABLE' THEN detail END AS detail, count(*) AS count, min(saga_id) AS example
FROM plan_items
WHERE plan_id = $1 GROUP BY 1, 2, 3
ORDER BY count DESC, example
LIMIT $2;

-- ONE_PLAN
SELECT plan_id, act, selection, state, planned_by, planned_at, applied_by, reason, applied_at, finished_at, rate_per_s, needs_approval, approved_by, approved_at, approval_reason, coalesce((SELECT jsonb_object_agg(item.state, item.count)
FROM (SELECT state, count(*)
FROM plan_items
WHERE plan_id = plans.plan_id GROUP BY state) AS item), '{}') AS counts
FROM plans
WHERE plan_id = $1;

-- LATEST_PLANS
SELECT plan_id, act, selection, state, planned_by, planned_at, applied_by, reason, applied_at, finished_at, rate_per_s, needs_approval, approved_by, approved_at, approval_reason, coalesce((SELECT jsonb_object_agg(item.state, item.count)
FROM (SELECT state, count(*)
FROM plan_items
WHERE plan_id = plans.plan_id GROUP BY state) AS item), '{}') AS counts
FROM plans
WHERE CAST($1 AS text[]) IS NULL OR state = ANY(CAST($1 AS text[]))
ORDER BY planned_at DESC
LIMIT $2;

-- PARKED_AGAIN_ITEMS
SELECT item.saga_id, item.partition, item.revision, item.step, item.runs, item.state, item.detail, item.done_at
FROM plan_items AS item JOIN sagas USING (saga_id)
WHERE item.plan_id = $1 AND item.state = 'DONE' AND sagas.state = 'NEEDS_REVIEW' AND sagas.parked_at > item.done_at AND item.saga_id > $2
ORDER BY item.saga_id
LIMIT $3;

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
