-- LOCK
SELECT saga_id, short_code, source, member_id, currency, amount_minor, held_at, state, ended_at
FROM payout_books
WHERE saga_id = ANY(CAST($1 AS text[]))
ORDER BY saga_id FOR NO KEY UPDATE;

-- ADD
INSERT INTO payout_books (saga_id, short_code, source, member_id, currency, amount_minor, held_at, state, ended_at)
SELECT saga_id, short_code, source, member_id, currency, amount_minor, held_at, state, ended_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS bigint[]), CAST($7 AS timestamptz[]), CAST($8 AS text[]), CAST($9 AS timestamptz[])) AS row (saga_id, short_code, source, member_id, currency, amount_minor, held_at, state, ended_at);

-- CHANGE
UPDATE payout_books
SET state = row.state, ended_at = row.ended_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS timestamptz[])) AS row (saga_id, state, ended_at)
WHERE payout_books.saga_id = row.saga_id;
