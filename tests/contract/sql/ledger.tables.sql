-- FIND_POSTED
SELECT saga_id, account, debit_minor, credit_minor, currency, posted_at
FROM entries
WHERE saga_id = ANY(CAST($1 AS text[])) AND kind = 'POST'
ORDER BY saga_id, account;

-- ADD
INSERT INTO entries (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at)
SELECT saga_id, kind, account, debit_minor, credit_minor, currency, posted_at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS bigint[]), CAST($5 AS bigint[]), CAST($6 AS text[]), CAST($7 AS timestamptz[])) AS row (saga_id, kind, account, debit_minor, credit_minor, currency, posted_at);

-- IMBALANCE
SELECT currency, sum(debit_minor) - sum(credit_minor)
FROM entries GROUP BY currency;
