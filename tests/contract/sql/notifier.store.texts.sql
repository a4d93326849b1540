-- SAVE_CONTACTS
INSERT INTO member_contacts AS known (member_id, phone, language, registered_at)
SELECT member_id, phone, language, registered_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS timestamptz[])) AS row (member_id, phone, language, registered_at)
ORDER BY member_id
ON CONFLICT (member_id)
DO UPDATE
SET phone = excluded.phone, language = excluded.language, registered_at = excluded.registered_at
WHERE known.registered_at IS NULL OR known.registered_at < excluded.registered_at;

-- FIND_CONTACTS
SELECT member_id, phone, language
FROM member_contacts
WHERE member_id = ANY(CAST($1 AS text[])) AND phone IS NOT NULL;

-- EXPECT_CONTACTS
INSERT INTO member_contacts (member_id)
SELECT member_id
FROM unnest(CAST($1 AS text[])) AS row (member_id)
ORDER BY member_id
ON CONFLICT DO NOTHING;

-- SAVE_WAITING
INSERT INTO waiting_texts (text_id, language, saga_id, member_id, kind, body)
SELECT text_id, language, saga_id, member_id, kind, body
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[])) WITH ORDINALITY AS row (text_id, language, saga_id, member_id, kind, body, ordinal)
ORDER BY ordinal
ON CONFLICT DO NOTHING;

-- RELEASE_WAITING
WITH released AS (DELETE
FROM waiting_texts USING member_contacts AS contact
WHERE waiting_texts.member_id = ANY(CAST($1 AS text[])) AND contact.member_id = waiting_texts.member_id AND contact.phone IS NOT NULL
RETURNING waiting_texts.*, contact.phone, contact.language AS chosen)
INSERT INTO texts (text_id, saga_id, member_id, kind, phone, language, body)
SELECT text_id, saga_id, member_id, kind, phone, language, body
FROM released
WHERE (language = 'sw') = (chosen = 'sw')
ORDER BY text_id
ON CONFLICT (text_id) DO NOTHING;

-- SAVE_TEXTS
INSERT INTO texts (text_id, saga_id, member_id, kind, phone, language, body)
SELECT text_id, saga_id, member_id, kind, phone, language, body
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[])) WITH ORDINALITY AS row (text_id, saga_id, member_id, kind, phone, language, body, ordinal)
ORDER BY ordinal
ON CONFLICT (text_id) DO NOTHING;

-- LEASE_DUE
UPDATE texts
SET lease = $1, due_at = CAST($2 AS timestamptz)
WHERE text_id IN (SELECT text_id
FROM texts
WHERE state = 'DUE' AND due_at <= CAST($3 AS timestamptz)
ORDER BY due_at
LIMIT $4
FOR UPDATE SKIP LOCKED)
RETURNING text_id, phone, body, attempt_count;

-- SETTLE
UPDATE texts
SET state = row.state, attempt_count = row.attempts, due_at = coalesce(row.due_at, texts.due_at), lease = NULL, last_error = row.error, ended_at = CASE WHEN row.state = 'DUE' THEN NULL ELSE CAST($1 AS timestamptz) END
FROM unnest(CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS smallint[]), CAST($5 AS timestamptz[]), CAST($6 AS text[])) AS row (id, state, attempts, due_at, error)
WHERE text_id = row.id AND lease = $7;

-- LIST_TEXTS
SELECT text_id, position, saga_id, member_id, kind, phone, language, body, state, attempt_count, CASE state WHEN 'DUE' THEN due_at END AS next_attempt_at, last_error, created_at, ended_at
FROM texts
WHERE position < $1 AND (CAST($2 AS text) IS NULL OR member_id = $2) AND (CAST($3 AS text) IS NULL OR state = $3) AND (CAST($4 AS text) IS NULL OR saga_id = $4)
ORDER BY position DESC
LIMIT $5;

-- OLDEST_DUE_S
SELECT coalesce(extract(epoch
FROM now() - min(due_at)), 0)
FROM texts
WHERE state = 'DUE' AND due_at <= now();

-- GIVEN_UP_COUNT
SELECT count(*)
FROM texts
WHERE state = 'GIVEN_UP' AND created_at > now() - interval '1 day';
