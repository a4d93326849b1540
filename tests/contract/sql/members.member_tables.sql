-- MEMBERS
SELECT member_id, saga_id, name, language, state, status, status_reason, policy, destination, phone, day_max_minor, currency, failure_reason, registered_at, onboarded_at
FROM members
WHERE member_id = ANY(CAST($1 AS text[]));

-- LOCK
SELECT member_id, saga_id, name, language, state, status, status_reason, policy, destination, phone, day_max_minor, currency, failure_reason, registered_at, onboarded_at
FROM members
WHERE member_id = ANY(CAST($1 AS text[]))
ORDER BY member_id FOR UPDATE;

-- STATUSES
SELECT member_id, kind, status
FROM accounts
WHERE member_id = ANY(CAST($1 AS text[]));

-- PHONES_OF_MEMBERS
SELECT member_id, phone
FROM member_phones
WHERE member_id = ANY(CAST($1 AS text[]));

-- BY_HASH
SELECT payer_hash, min(member_id) AS member_id
FROM member_phones
WHERE payer_hash = ANY(CAST($1 AS text[])) GROUP BY payer_hash HAVING count(*) = 1;

-- ADD_HOLDINGS
INSERT INTO holdings (source, member_id, kind, month, amount_minor)
SELECT source, member_id, kind, month, amount_minor
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS date[]), CAST($5 AS bigint[])) AS row (source, member_id, kind, month, amount_minor)
ON CONFLICT (source, member_id, kind) DO NOTHING;

-- INSERT
INSERT INTO members (member_id, saga_id, name, language, state, status, policy, destination, phone, day_max_minor, currency, registered_at)
SELECT member_id, saga_id, name, language, state, status, policy, destination, phone, day_max_minor, currency, registered_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS bigint[]), CAST($11 AS text[]), CAST($12 AS timestamptz[])) AS row (member_id, saga_id, name, language, state, status, policy, destination, phone, day_max_minor, currency, registered_at)
ON CONFLICT (member_id) DO NOTHING
RETURNING member_id;

-- INSERT_ACCOUNTS
INSERT INTO accounts (member_id, kind, status)
SELECT member_id, kind, 'ACTIVE'
FROM unnest(CAST($1 AS text[])) AS member_id, unnest(CAST($2 AS text[])) AS kind;

-- INSERT_FIRST_PHONES
INSERT INTO member_phones (phone, member_id, payer_hash, added_at)
SELECT phone, member_id, payer_hash, added_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS timestamptz[])) AS row (phone, member_id, payer_hash, added_at)
ON CONFLICT DO NOTHING;

-- INSERT_PHONE
INSERT INTO member_phones (phone, member_id, payer_hash, added_at) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING;

-- PHONES_OF
SELECT phone, member_id, payer_hash, added_at
FROM member_phones
WHERE member_id = $1
ORDER BY added_at, phone;

-- ONBOARD
UPDATE members
SET state = 'ACTIVE', onboarded_at = $1, failure_reason = NULL
WHERE saga_id = $2 AND onboarded_at IS NULL;

-- FAIL
UPDATE members
SET state = 'FAILED', failure_reason = $1
WHERE saga_id = $2 AND state = 'REGISTERED';

-- RESTART
UPDATE members
SET state = 'REGISTERED', saga_id = $1
WHERE member_id = $2 AND state = 'FAILED';

-- SET_STATUS
UPDATE members
SET status = $1, status_reason = $2
WHERE member_id = $3;

-- SET_ACCOUNT
UPDATE accounts
SET status = $1
WHERE member_id = $2 AND kind = $3;

-- CHANGE
UPDATE members
SET phone = coalesce($1, phone), destination = coalesce($2, destination), language = coalesce($3, language), policy = coalesce($4, policy), day_max_minor = coalesce(CAST($5 AS bigint), day_max_minor)
WHERE member_id = $6;

-- PAGE
SELECT member_id, saga_id, name, language, state, status, status_reason, policy, destination, phone, day_max_minor, currency, failure_reason, registered_at, onboarded_at
FROM members
WHERE member_id > $1 AND (CAST($2 AS text) IS NULL OR state = $2) AND (CAST($3 AS text) IS NULL OR status = $3) AND (CAST($4 AS text) IS NULL OR member_id IN (SELECT member_id
FROM member_phones
WHERE phone = $4))
ORDER BY member_id
LIMIT $5;

-- ACTIVE
SELECT member_id, destination, status
FROM members
WHERE state = 'ACTIVE';
