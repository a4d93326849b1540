-- UNALLOCATED
SELECT count(*) AS number, coalesce(sum(amount_minor), 0) AS total, min(completed_at) AS since
FROM receipt_books
WHERE short_code = $1 AND currency = $2 AND state = 'UNALLOCATED' AND completed_at < $3;

-- IN_TRANSIT
SELECT count(*) AS number, coalesce(sum(amount_minor), 0) AS total, min(held_at) AS since
FROM (SELECT amount_minor, held_at
FROM payout_books
WHERE short_code = $1 AND currency = $2 AND state = 'HELD' AND held_at < $3 UNION ALL
SELECT amount_minor, held_at
FROM payout_books
WHERE short_code = $1 AND currency = $2 AND held_at < $3 AND ended_at >= $3) AS open;
