-- TAKE_LOCK
SELECT pg_advisory_xact_lock($1);

-- COUNTS
SELECT count(*) FILTER (WHERE issuer = $1 AND subject = $2) AS own, count(*) FILTER (WHERE is_shared) AS shared, count(*) FILTER (WHERE issuer = $1 AND subject = $2 AND name = $3) AS namesakes
FROM views;

-- SAVE
INSERT INTO views (issuer, subject, person, name, query, is_shared) VALUES ($1, $2, $3, $4, $5, $6);

-- VISIBLE
SELECT view_id, person, name, query, is_shared, issuer = $1 AND subject = $2 AS is_own
FROM views
WHERE is_shared OR (issuer = $1 AND subject = $2)
ORDER BY is_shared, lower(name), view_id
LIMIT $3;

-- DELETE
DELETE
FROM views
WHERE view_id = $1 AND ((issuer = $2 AND subject = $3) OR (is_shared AND CAST($4 AS boolean)))
RETURNING name;

-- REVEAL
INSERT INTO reveals (issuer, subject, person, saga_id, reason) VALUES ($1, $2, $3, $4, $5);

-- REVEALED
SELECT reveal_id, issuer, subject, person, saga_id, reason, revealed_at
FROM reveals
WHERE reveal_id < $1 AND (CAST($2 AS text) IS NULL OR saga_id = $2) AND (CAST($3 AS text) IS NULL OR subject = $3)
ORDER BY reveal_id DESC
LIMIT $4;
