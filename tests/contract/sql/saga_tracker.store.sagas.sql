-- LOAD
SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, CAST(progress AS text) AS progress, waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by
FROM sagas
WHERE saga_id = ANY(CAST($1 AS text[]));

-- LOAD_DUE
SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, CAST(progress AS text) AS progress, waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by
FROM sagas JOIN unnest(CAST($1 AS smallint[]), CAST($2 AS timestamptz[])) AS due (partition, until) USING (partition)
WHERE wake_at <= $3 AND wake_at <= due.until AND deadline_at <= due.until
ORDER BY wake_at, saga_id
LIMIT $4
FOR UPDATE OF sagas SKIP LOCKED;

-- PUT_OFF
UPDATE sagas
SET wake_at = deadline_at
WHERE saga_id = ANY(ARRAY(SELECT saga_id
FROM sagas JOIN unnest(CAST($1 AS smallint[]), CAST($2 AS timestamptz[])) AS due (partition, until) USING (partition)
WHERE wake_at <= $3 AND wake_at <= due.until AND (deadline_at > due.until OR deadline_at IS NULL)
ORDER BY wake_at, saga_id
LIMIT $4
FOR UPDATE OF sagas SKIP LOCKED));

-- WAKE_IN_TIME
UPDATE sagas
SET wake_at = deadline_at
WHERE state IN ('PENDING', 'NEEDS_REVIEW') AND (awaits_since IS NULL OR wake_at IS NOT NULL OR state = 'NEEDS_REVIEW') AND state = 'PENDING' AND partition = ANY(CAST($1 AS smallint[])) AND deadline_at < coalesce(wake_at, 'infinity');

-- LOAD_ORPHANS
SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, CAST(progress AS text) AS progress, waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by
FROM sagas
WHERE state IN ('PENDING', 'NEEDS_REVIEW') AND (awaits_since IS NULL OR wake_at IS NOT NULL OR state = 'NEEDS_REVIEW') AND partition = ANY(CAST($1 AS smallint[])) AND ((state = 'PENDING' AND ((deadline_at IS NULL AND awaits_since IS NULL) OR deadline_at > $2)) OR (state = 'NEEDS_REVIEW' AND coalesce(reason, '') = '') OR (state = 'NEEDS_REVIEW' AND waiting = $3 AND (saga_type, saga_version) IN (SELECT *
FROM unnest(CAST($4 AS text[]), CAST($5 AS smallint[])))))
ORDER BY state, started_at, saga_id
LIMIT $6
FOR UPDATE SKIP LOCKED;

-- LOAD_UNDECIDED
SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, CAST(progress AS text) AS progress, waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by
FROM sagas
WHERE phase = '' AND saga_id > $1
ORDER BY saga_id
LIMIT $2;

-- INSERT
INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, progress, waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by, wake_at, updated_at)
SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, CAST(progress AS jsonb), waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by, deadline_at, $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS smallint[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS smallint[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS timestamptz[]), CAST($15 AS text[]), CAST($16 AS integer[]), CAST($17 AS timestamptz[]), CAST($18 AS timestamptz[]), CAST($19 AS timestamptz[]), CAST($20 AS timestamptz[]), CAST($21 AS timestamptz[]), CAST($22 AS timestamptz[]), CAST($23 AS text[])) AS row (saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, progress, waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by)
ON CONFLICT (saga_id) DO NOTHING;

-- UPDATE
UPDATE sagas
SET subject = row.subject, state = row.state, phase = row.phase, step = row.step, cause = row.cause, reason = row.reason, progress = CAST(row.progress AS jsonb), waiting = row.waiting, deadline_at = row.deadline_at, version = row.version, started_at = row.started_at, finished_at = row.finished_at, parked_at = row.parked_at, awaits_since = row.awaits_since, contradicted_at = row.contradicted_at, settled_at = row.settled_at, settled_by = row.settled_by, updated_at = $1, wake_at = CASE WHEN row.deadline_at IS NOT NULL THEN least(sagas.wake_at, row.deadline_at) END
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS timestamptz[]), CAST($12 AS integer[]), CAST($13 AS timestamptz[]), CAST($14 AS timestamptz[]), CAST($15 AS timestamptz[]), CAST($16 AS timestamptz[]), CAST($17 AS timestamptz[]), CAST($18 AS timestamptz[]), CAST($19 AS text[])) AS row (saga_id, subject, state, phase, step, cause, reason, progress, waiting, deadline_at, version, started_at, finished_at, parked_at, awaits_since, contradicted_at, settled_at, settled_by)
WHERE sagas.saga_id = row.saga_id AND sagas.version = row.version - 1;
