-- AS_SEALED
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, YMD';

-- OPENED
SELECT coalesce(max(id), CAST($1 AS bigint)) AS last_id, coalesce(string_agg(CAST(ROW(id, path, chart, code, owner, kind, currency, lanes, opened_at) AS text), chr(10)
ORDER BY id), '') AS printed
FROM accounts
WHERE chart = $2 AND id > $1 AND id <= $3;

-- LAST_CLOSE
SELECT last_account_id, accounts_digest
FROM day_closes
WHERE chart = $1
ORDER BY day DESC
LIMIT 1;
