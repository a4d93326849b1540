-- LOCK
SELECT pg_advisory_xact_lock($1);

-- LAST
SELECT max(day)
FROM day_closes
WHERE chart = $1;

-- ADD_CLOSE
INSERT INTO day_closes (chart, day, closed_until, closed_at, root, heads) VALUES ($1, $2, $3, $4, $5, $6);

-- ADD_TOTALS
INSERT INTO day_totals (chart, day, code, currency, debits, credits) VALUES ($1, $2, $3, $4, $5, $6);
