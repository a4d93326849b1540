-- AS_SEALED
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, YMD';

-- CLOSES
SELECT chart, CAST(day AS text) AS day, root, heads, first_open_id, next_id, last_account_id, accounts_digest, coalesce(to_char(closed_until AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24-MI-SS-US'), '') AS closed_until, coalesce(to_char(closed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24-MI-SS-US'), '') AS closed_at
FROM day_closes
ORDER BY chart, day_closes.day;

-- STORED
SELECT chart, CAST(day AS text) AS day, code, currency, CAST(debits AS text) AS debits, CAST(credits AS text) AS credits
FROM day_totals;

-- HASHED
SET LOCAL enable_nestloop = off;
SET LOCAL enable_sort = off;

-- SUMMED
WITH sealed AS MATERIALIZED (SELECT id, width_bucket(position - 1, CASE partition WHEN 0 THEN CAST($1 AS bigint[]) WHEN 1 THEN CAST($2 AS bigint[]) WHEN 2 THEN CAST($3 AS bigint[]) WHEN 3 THEN CAST($4 AS bigint[]) END) AS close
FROM batches
WHERE position >= 1 AND partition >= 0 AND partition < $5)
SELECT greatest(close, width_bucket(effective_at, ARRAY(SELECT closed_until
FROM day_closes
WHERE chart = $6
ORDER BY day))) AS close, code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
FROM transfer_entries JOIN accounts ON accounts.id = account_id AND chart = $6 JOIN sealed ON sealed.id = transfer_id >> 10
WHERE NOT is_hold GROUP BY 1, code, currency;
