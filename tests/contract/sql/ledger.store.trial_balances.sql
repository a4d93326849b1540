-- LAST_CLOSE
SELECT day, closed_until, closed_at, first_open_id, next_id
FROM day_closes
WHERE chart = $1
ORDER BY day DESC
LIMIT 1;

-- CLOSE_OF
SELECT day, closed_until, closed_at, first_open_id, next_id
FROM day_closes
WHERE chart = $1 AND day >= $2
ORDER BY day
LIMIT 1;

-- TOTALS_AT_CLOSE
SELECT code, currency, debits, credits
FROM day_totals
WHERE chart = $1 AND day = $2;

-- BOOKED
SELECT code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
FROM transfer_entries JOIN accounts ON accounts.id = account_id
WHERE transfer_id >= $1 AND transfer_id < $2 AND chart = $3 AND NOT is_hold AND effective_at < $4 AND (transfer_id >= $5 OR effective_at >= $6) GROUP BY code, currency;

-- AHEAD
SELECT code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
FROM transfer_entries JOIN accounts ON accounts.id = account_id
WHERE effective_at - booked_at > interval '5 seconds' AND transfer_id < $1 AND chart = $2 AND NOT is_hold AND effective_at >= $3 AND effective_at < $4 GROUP BY code, currency;

-- LATE_TOTALS
SELECT code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
FROM transfers JOIN transfer_entries ON transfer_id = transfers.id JOIN accounts ON accounts.id = account_id
WHERE is_late AND transfers.effective_at < $1 AND transfers.id >= $2 AND chart = $3 AND NOT is_hold GROUP BY code, currency;

-- LATE
SELECT reference, booked_at, effective_at, saga_id, count(*) OVER () AS late_count
FROM transfers
WHERE is_late AND effective_at < $1 AND id >= $2 AND EXISTS (SELECT
FROM transfer_entries JOIN accounts ON accounts.id = account_id
WHERE transfer_id = transfers.id AND chart = $3 AND NOT is_hold)
ORDER BY id
LIMIT $4;

-- FIRST_OPEN
SELECT min(transfer_id)
FROM transfer_entries
WHERE transfer_id >= $1 AND transfer_id < $2 AND effective_at >= $3 AND effective_at - booked_at <= interval '5 seconds';
