-- NEXT_HOUR
WITH hours AS (SELECT DISTINCT date_trunc('hour', occurred_at, 'UTC') AS hour
FROM records
WHERE source = 'LEDGER' AND occurred_at < $1 AND recorded_at > coalesce((SELECT swept_until - interval '10 minutes'
FROM lake_sweeps), '-infinity'))
SELECT hours.hour
FROM hours LEFT JOIN lake_hours ON lake_hours.hour = hours.hour
WHERE entry_count IS DISTINCT
FROM (SELECT count(*)
FROM records
WHERE source = 'LEDGER' AND occurred_at >= hours.hour AND occurred_at < hours.hour + interval '1 hour')
ORDER BY 1
LIMIT 1;

-- SWEPT
INSERT INTO lake_sweeps (id, swept_until) VALUES (1, $1)
ON CONFLICT (id)
DO UPDATE
SET swept_until = $1;

-- NEXT_DAY
SELECT date_trunc('day', hour, 'UTC') AS day
FROM lake_hours
WHERE NOT is_merged AND hour < $1
ORDER BY 1
LIMIT 1;

-- ENTRIES
SELECT payment_id, refund_id, saga_id, kind, merchant_id, is_live, gateway, account, gateway_payment_id, reference, currency, amount_minor, fee_minor, occurred_at, recorded_at
FROM records
WHERE source = 'LEDGER' AND occurred_at >= $1 AND occurred_at < $2
ORDER BY occurred_at, saga_id;

-- WRITTEN
INSERT INTO lake_hours (hour, written_at, entry_count, is_merged) VALUES ($1, $2, $3, false)
ON CONFLICT (hour)
DO UPDATE
SET written_at = $2, entry_count = $3, is_merged = false;

-- MERGED
UPDATE lake_hours
SET written_at = $1, is_merged = true
WHERE hour >= $2 AND hour < $3;
