-- LATEST
SELECT version, digest, refusal
FROM feed_files
WHERE account = $1 AND name = $2
ORDER BY version DESC
LIMIT 1;

-- ADD
INSERT INTO feed_files (account, name, version, digest, byte_count, line_count, refusal, loaded_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id;

-- HAS_OTHERS
SELECT EXISTS (SELECT
FROM feed_files
WHERE account = $1 AND id <> $2 AND line_count > 0);

-- SUPERSEDE_FILE
UPDATE feed_lines
SET superseded_at = $1
WHERE superseded_at IS NULL AND file_id IN (SELECT id
FROM feed_files
WHERE account = $2 AND name = $3 AND version < $4);

-- SUPERSEDE_LINES
UPDATE feed_lines AS earlier
SET superseded_at = $1
FROM feed_lines AS later
WHERE later.file_id = $2 AND earlier.account = later.account AND earlier.line_id = later.line_id AND earlier.superseded_at IS NULL AND (earlier.file_id <> later.file_id OR earlier.number > later.number);

-- LIST
SELECT id, account, name, version, digest, byte_count, line_count, refusal, loaded_at
FROM feed_files
WHERE id < $1 AND (CAST($2 AS text) IS NULL OR account = $2)
ORDER BY id DESC
LIMIT $3;
