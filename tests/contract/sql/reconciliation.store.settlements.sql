-- PAID
SELECT batch, settlement_currency AS currency, -sum(net_minor) AS paid_minor, max(occurred_at) AS settled_at, min(loaded_at) AS loaded_at
FROM feed_lines AS paid
WHERE account = $1 AND movement = 'PAYOUT' AND superseded_at IS NULL AND batch IS NOT NULL AND NOT EXISTS (SELECT
FROM settlements
WHERE settlements.account = paid.account AND settlements.batch = paid.batch AND settlements.currency = paid.settlement_currency) GROUP BY batch, settlement_currency
ORDER BY max(occurred_at), batch
LIMIT 100;

-- TOTALS
WITH lines AS (SELECT feed_lines.*, coalesce(own.payment_id, other.payment_id) AS known_id, coalesce(own.merchant_id, other.merchant_id) AS merchant_id, coalesce(own.is_live, other.is_live) AS is_live
FROM feed_lines LEFT JOIN payments AS own ON own.account = $1 AND own.payment_id = feed_lines.payment_id LEFT JOIN payments AS other ON other.account = $1 AND other.gateway_payment_id = feed_lines.gateway_payment_id
WHERE feed_lines.account = $1 AND batch = $2 AND superseded_at IS NULL)
SELECT coalesce(sum(fee_minor) FILTER (WHERE movement NOT IN ('PAYOUT', 'TRANSFER')), 0) AS cost_minor, count(*) FILTER (WHERE movement = 'CAPTURE' AND is_principal AND (known_id IS NULL OR NOT EXISTS (SELECT
FROM records
WHERE records.payment_id = known_id AND kind = 'CAPTURE' AND source = 'LEDGER'))) AS unknown
FROM lines;

-- RELEASES
WITH lines AS (SELECT feed_lines.*, coalesce(own.payment_id, other.payment_id) AS known_id, coalesce(own.merchant_id, other.merchant_id) AS merchant_id, coalesce(own.is_live, other.is_live) AS is_live
FROM feed_lines LEFT JOIN payments AS own ON own.account = $1 AND own.payment_id = feed_lines.payment_id LEFT JOIN payments AS other ON other.account = $1 AND other.gateway_payment_id = feed_lines.gateway_payment_id
WHERE feed_lines.account = $1 AND batch = $2 AND superseded_at IS NULL), released AS (UPDATE payments
SET released_batch = $2
WHERE account = $1 AND released_batch IS NULL AND payment_id IN (SELECT known_id
FROM lines
WHERE movement = 'CAPTURE' AND is_principal)
RETURNING payment_id, merchant_id, is_live)
SELECT currency, released.merchant_id, released.is_live, sum(amount_minor - fee_minor) AS net_minor
FROM released JOIN records ON records.payment_id = released.payment_id AND records.account = $1
WHERE source = 'LEDGER' AND movement = 'CAPTURE' GROUP BY 1, 2, 3 HAVING sum(amount_minor - fee_minor) > 0
ORDER BY 1, 2, 3;

-- ADD
INSERT INTO settlements (account, batch, currency, saga_id, paid_minor, cost_minor, settled_at, state, reported_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'REPORTED', $8)
ON CONFLICT DO NOTHING
RETURNING saga_id;

-- END
UPDATE settlements
SET state = CASE WHEN CAST($1 AS text) IS NULL THEN 'BOOKED' ELSE 'FAILED' END, failure = $1, ended_at = $2
WHERE saga_id = $3 AND state = 'REPORTED';
