-- SCOPE_OF_DAY
INSERT INTO run_scope (run, item, payment_id)
SELECT DISTINCT CAST($1 AS integer), 'p:' || payment_id, payment_id
FROM records
WHERE account = $2 AND occurred_at >= $3 AND occurred_at < $4 UNION
SELECT CAST($1 AS integer), item, payment_id
FROM (SELECT CASE WHEN movement NOT IN ('CAPTURE', 'REFUND', 'DISPUTE') THEN 'l:' || line_id WHEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) IS NOT NULL THEN 'p:' || coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) WHEN feed_lines.gateway_payment_id IS NOT NULL THEN 'g:' || feed_lines.gateway_payment_id ELSE 'l:' || line_id END AS item, CASE WHEN movement IN ('CAPTURE', 'REFUND', 'DISPUTE') THEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) END AS payment_id
FROM feed_lines LEFT JOIN payments AS own ON own.account = $2 AND own.payment_id = feed_lines.payment_id LEFT JOIN payments AS other ON other.account = $2 AND other.gateway_payment_id = feed_lines.gateway_payment_id
WHERE feed_lines.account = $2 AND occurred_at >= $3 AND occurred_at < $4) AS of_lines;

-- SCOPE_OF_CHANGES
INSERT INTO run_scope (run, item, payment_id)
SELECT DISTINCT CAST($1 AS integer), 'p:' || payment_id, payment_id
FROM records
WHERE account = $2 AND recorded_at > $3 UNION
SELECT CAST($1 AS integer), item, payment_id
FROM (SELECT CASE WHEN movement NOT IN ('CAPTURE', 'REFUND', 'DISPUTE') THEN 'l:' || line_id WHEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) IS NOT NULL THEN 'p:' || coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) WHEN feed_lines.gateway_payment_id IS NOT NULL THEN 'g:' || feed_lines.gateway_payment_id ELSE 'l:' || line_id END AS item, CASE WHEN movement IN ('CAPTURE', 'REFUND', 'DISPUTE') THEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) END AS payment_id
FROM feed_lines LEFT JOIN payments AS own ON own.account = $2 AND own.payment_id = feed_lines.payment_id LEFT JOIN payments AS other ON other.account = $2 AND other.gateway_payment_id = feed_lines.gateway_payment_id
WHERE feed_lines.account = $2 AND (loaded_at > $3 OR superseded_at > $3)) AS of_lines UNION
SELECT CAST($1 AS integer), item, CASE WHEN item LIKE 'p:%%' THEN CAST(substr(item, 3) AS bigint) END
FROM pending
WHERE account = $2 AND check_at <= $4 UNION
SELECT CAST($1 AS integer), item, CASE WHEN item LIKE 'p:%%' THEN CAST(substr(item, 3) AS bigint) END
FROM divergences
WHERE account = $2 AND state = 'OPEN';

-- UNSCOPE
DELETE
FROM run_scope
WHERE run = $1;

-- MATCH_ALL
INSERT INTO run_lines (run, number, state, item, movement, key, payment_id, currency, ledger_minor, gateway_minor, feed_minor, feed_currency, fee_minor, batch, occurred_at, check_at) WITH due AS (SELECT *
FROM unnest(CAST($1 AS date[]), CAST($2 AS timestamptz[]), CAST($3 AS timestamptz[])) AS due (day, missing_at, late_at)), books AS (SELECT 'p:' || records.payment_id AS item, records.movement, CASE WHEN records.movement = 'REFUND' THEN coalesce(refund.reference, records.reference, '') ELSE '' END AS key, max(records.payment_id) AS payment_id, min(records.currency) AS currency, max(records.currency) AS other_currency, sum(records.amount_minor) FILTER (WHERE records.source = 'LEDGER') AS ledger_minor, sum(records.amount_minor) FILTER (WHERE records.source = 'GATEWAY') AS gateway_minor, count(*) FILTER (WHERE records.source = 'LEDGER' AND records.kind IN ('CAPTURE', 'REFUND', 'DISPUTED')) AS principals, min(records.occurred_at) AS occurred_at, max(records.recorded_at) AS known_at
FROM records LEFT JOIN records AS refund ON records.kind = 'REFUND_FAILED' AND refund.kind = 'REFUND' AND refund.refund_id = records.refund_id AND refund.source = records.source
WHERE records.account = $4 GROUP BY 1, 2, 3), lines AS (SELECT CASE WHEN movement NOT IN ('CAPTURE', 'REFUND', 'DISPUTE') THEN 'l:' || line_id WHEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) IS NOT NULL THEN 'p:' || coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) WHEN feed_lines.gateway_payment_id IS NOT NULL THEN 'g:' || feed_lines.gateway_payment_id ELSE 'l:' || line_id END AS item, movement, CASE WHEN movement = 'REFUND' THEN coalesce(reference, '') ELSE '' END AS key, coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) AS payment_id, is_principal, currency, fee_minor, net_minor, batch, occurred_at, loaded_at, CASE WHEN movement = 'PAYOUT' THEN net_minor ELSE amount_minor END AS amount_minor
FROM feed_lines LEFT JOIN payments AS own ON own.account = $4 AND own.payment_id = feed_lines.payment_id LEFT JOIN payments AS other ON other.account = $4 AND other.gateway_payment_id = feed_lines.gateway_payment_id
WHERE feed_lines.account = $4 AND superseded_at IS NULL), feed AS (SELECT item, movement, key, max(payment_id) AS payment_id, min(currency) AS currency, max(currency) AS other_currency, sum(amount_minor) AS minor, sum(fee_minor) AS fee_minor, count(*) FILTER (WHERE is_principal) AS principals, max(batch) AS batch, min(occurred_at) AS occurred_at, max(loaded_at) AS known_at
FROM lines
WHERE true GROUP BY 1, 2, 3), joined AS (SELECT coalesce(books.item, feed.item) AS item, coalesce(books.movement, feed.movement) AS movement, coalesce(books.key, feed.key) AS key, coalesce(books.payment_id, feed.payment_id) AS payment_id, books.ledger_minor, books.gateway_minor, feed.minor AS feed_minor, feed.fee_minor, feed.batch, coalesce(books.currency, feed.currency) AS currency, feed.currency AS feed_currency, books.currency <> books.other_currency OR feed.currency <> feed.other_currency OR books.currency <> feed.currency AS is_mixed, books.principals, feed.principals AS feed_principals, coalesce(books.occurred_at, feed.occurred_at) AS occurred_at, feed.occurred_at AS feed_at, greatest(books.known_at, feed.known_at) AS known_at
FROM books FULL JOIN feed ON feed.item = books.item AND feed.movement = books.movement AND feed.key = books.key), judged AS (SELECT joined.*, due.missing_at, due.late_at, known_at > $5 - CAST($6 AS interval) AS is_fresh
FROM joined LEFT JOIN due ON due.day = CAST(joined.occurred_at AT TIME ZONE 'UTC' AS date)), stated AS (SELECT judged.*, CASE WHEN movement IN ('COST', 'TRANSFER') THEN 'FEE_ONLY' WHEN movement = 'PAYOUT' AND coalesce((SELECT sum(net_minor)
FROM feed_lines
WHERE account = $4 AND superseded_at IS NULL AND batch = judged.batch AND movement <> 'PAYOUT') + (SELECT sum(net_minor)
FROM feed_lines
WHERE account = $4 AND superseded_at IS NULL AND batch = judged.batch AND movement = 'PAYOUT'), 0) = 0 THEN 'MATCHED' WHEN feed_minor IS NOT NULL AND NOT is_mixed AND feed_minor = ledger_minor AND ledger_minor = gateway_minor THEN CASE WHEN feed_at >= late_at THEN 'LATE' ELSE 'MATCHED' END WHEN feed_minor IS NULL AND coalesce(ledger_minor, 0) = 0 AND coalesce(gateway_minor, 0) = 0 THEN 'MATCHED' WHEN is_fresh THEN 'PENDING' WHEN movement = 'PAYOUT' THEN 'AMOUNT_MISMATCH' WHEN ledger_minor IS NULL THEN 'MISSING_IN_LEDGER' WHEN feed_minor IS NULL AND gateway_minor IS NULL THEN 'STATE_MISMATCH' WHEN is_mixed THEN 'CURRENCY_MISMATCH' WHEN feed_minor IS NULL AND gateway_minor <> ledger_minor THEN 'AMOUNT_MISMATCH' WHEN feed_minor IS NULL AND missing_at > $5 THEN 'PENDING' WHEN feed_minor IS NULL THEN 'MISSING_AT_GATEWAY' WHEN feed_principals > principals AND principals > 0 AND abs(feed_minor) > abs(ledger_minor) THEN 'DUPLICATE' WHEN (feed_minor = 0) <> (ledger_minor = 0) OR gateway_minor IS NULL THEN 'STATE_MISMATCH' ELSE 'AMOUNT_MISMATCH' END AS state
FROM judged)
SELECT CAST($7 AS integer), row_number() OVER (), state, item, movement, key, payment_id, currency, ledger_minor, gateway_minor, feed_minor, feed_currency, fee_minor, batch, occurred_at, CASE WHEN state = 'PENDING' THEN CASE WHEN is_fresh THEN known_at + CAST($6 AS interval) ELSE missing_at END END
FROM stated;

-- MATCH_SCOPED
INSERT INTO run_lines (run, number, state, item, movement, key, payment_id, currency, ledger_minor, gateway_minor, feed_minor, feed_currency, fee_minor, batch, occurred_at, check_at) WITH due AS (SELECT *
FROM unnest(CAST($1 AS date[]), CAST($2 AS timestamptz[]), CAST($3 AS timestamptz[])) AS due (day, missing_at, late_at)), books AS (SELECT 'p:' || records.payment_id AS item, records.movement, CASE WHEN records.movement = 'REFUND' THEN coalesce(refund.reference, records.reference, '') ELSE '' END AS key, max(records.payment_id) AS payment_id, min(records.currency) AS currency, max(records.currency) AS other_currency, sum(records.amount_minor) FILTER (WHERE records.source = 'LEDGER') AS ledger_minor, sum(records.amount_minor) FILTER (WHERE records.source = 'GATEWAY') AS gateway_minor, count(*) FILTER (WHERE records.source = 'LEDGER' AND records.kind IN ('CAPTURE', 'REFUND', 'DISPUTED')) AS principals, min(records.occurred_at) AS occurred_at, max(records.recorded_at) AS known_at
FROM records LEFT JOIN records AS refund ON records.kind = 'REFUND_FAILED' AND refund.kind = 'REFUND' AND refund.refund_id = records.refund_id AND refund.source = records.source
WHERE records.account = $4 AND records.payment_id IN (SELECT payment_id
FROM run_scope
WHERE run = $5 AND payment_id IS NOT NULL) GROUP BY 1, 2, 3), lines AS (SELECT CASE WHEN movement NOT IN ('CAPTURE', 'REFUND', 'DISPUTE') THEN 'l:' || line_id WHEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) IS NOT NULL THEN 'p:' || coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) WHEN feed_lines.gateway_payment_id IS NOT NULL THEN 'g:' || feed_lines.gateway_payment_id ELSE 'l:' || line_id END AS item, movement, CASE WHEN movement = 'REFUND' THEN coalesce(reference, '') ELSE '' END AS key, coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) AS payment_id, is_principal, currency, fee_minor, net_minor, batch, occurred_at, loaded_at, CASE WHEN movement = 'PAYOUT' THEN net_minor ELSE amount_minor END AS amount_minor
FROM feed_lines LEFT JOIN payments AS own ON own.account = $4 AND own.payment_id = feed_lines.payment_id LEFT JOIN payments AS other ON other.account = $4 AND other.gateway_payment_id = feed_lines.gateway_payment_id
WHERE feed_lines.account = $4 AND superseded_at IS NULL AND (file_id, number) IN (SELECT file_id, number
FROM feed_lines
WHERE payment_id IN (SELECT payment_id
FROM run_scope
WHERE run = $5 AND payment_id IS NOT NULL) UNION ALL
SELECT file_id, number
FROM feed_lines
WHERE gateway_payment_id IN (SELECT gateway_payment_id
FROM payments
WHERE account = $4 AND payment_id IN (SELECT payment_id
FROM run_scope
WHERE run = $5 AND payment_id IS NOT NULL) UNION ALL
SELECT substr(item, 3)
FROM run_scope
WHERE run = $5 AND item LIKE 'g:%%') UNION ALL
SELECT file_id, number
FROM feed_lines
WHERE account = $4 AND line_id IN (SELECT substr(item, 3)
FROM run_scope
WHERE run = $5 AND item LIKE 'l:%%'))), feed AS (SELECT item, movement, key, max(payment_id) AS payment_id, min(currency) AS currency, max(currency) AS other_currency, sum(amount_minor) AS minor, sum(fee_minor) AS fee_minor, count(*) FILTER (WHERE is_principal) AS principals, max(batch) AS batch, min(occurred_at) AS occurred_at, max(loaded_at) AS known_at
FROM lines
WHERE item IN (SELECT item
FROM run_scope
WHERE run = $5) GROUP BY 1, 2, 3), joined AS (SELECT coalesce(books.item, feed.item) AS item, coalesce(books.movement, feed.movement) AS movement, coalesce(books.key, feed.key) AS key, coalesce(books.payment_id, feed.payment_id) AS payment_id, books.ledger_minor, books.gateway_minor, feed.minor AS feed_minor, feed.fee_minor, feed.batch, coalesce(books.currency, feed.currency) AS currency, feed.currency AS feed_currency, books.currency <> books.other_currency OR feed.currency <> feed.other_currency OR books.currency <> feed.currency AS is_mixed, books.principals, feed.principals AS feed_principals, coalesce(books.occurred_at, feed.occurred_at) AS occurred_at, feed.occurred_at AS feed_at, greatest(books.known_at, feed.known_at) AS known_at
FROM books FULL JOIN feed ON feed.item = books.item AND feed.movement = books.movement AND feed.key = books.key), judged AS (SELECT joined.*, due.missing_at, due.late_at, known_at > $6 - CAST($7 AS interval) AS is_fresh
FROM joined LEFT JOIN due ON due.day = CAST(joined.occurred_at AT TIME ZONE 'UTC' AS date)), stated AS (SELECT judged.*, CASE WHEN movement IN ('COST', 'TRANSFER') THEN 'FEE_ONLY' WHEN movement = 'PAYOUT' AND coalesce((SELECT sum(net_minor)
FROM feed_lines
WHERE account = $4 AND superseded_at IS NULL AND batch = judged.batch AND movement <> 'PAYOUT') + (SELECT sum(net_minor)
FROM feed_lines
WHERE account = $4 AND superseded_at IS NULL AND batch = judged.batch AND movement = 'PAYOUT'), 0) = 0 THEN 'MATCHED' WHEN feed_minor IS NOT NULL AND NOT is_mixed AND feed_minor = ledger_minor AND ledger_minor = gateway_minor THEN CASE WHEN feed_at >= late_at THEN 'LATE' ELSE 'MATCHED' END WHEN feed_minor IS NULL AND coalesce(ledger_minor, 0) = 0 AND coalesce(gateway_minor, 0) = 0 THEN 'MATCHED' WHEN is_fresh THEN 'PENDING' WHEN movement = 'PAYOUT' THEN 'AMOUNT_MISMATCH' WHEN ledger_minor IS NULL THEN 'MISSING_IN_LEDGER' WHEN feed_minor IS NULL AND gateway_minor IS NULL THEN 'STATE_MISMATCH' WHEN is_mixed THEN 'CURRENCY_MISMATCH' WHEN feed_minor IS NULL AND gateway_minor <> ledger_minor THEN 'AMOUNT_MISMATCH' WHEN feed_minor IS NULL AND missing_at > $6 THEN 'PENDING' WHEN feed_minor IS NULL THEN 'MISSING_AT_GATEWAY' WHEN feed_principals > principals AND principals > 0 AND abs(feed_minor) > abs(ledger_minor) THEN 'DUPLICATE' WHEN (feed_minor = 0) <> (ledger_minor = 0) OR gateway_minor IS NULL THEN 'STATE_MISMATCH' ELSE 'AMOUNT_MISMATCH' END AS state
FROM judged)
SELECT CAST($5 AS integer), row_number() OVER (), state, item, movement, key, payment_id, currency, ledger_minor, gateway_minor, feed_minor, feed_currency, fee_minor, batch, occurred_at, CASE WHEN state = 'PENDING' THEN CASE WHEN is_fresh THEN known_at + CAST($7 AS interval) ELSE missing_at END END
FROM stated;

-- FIRST_DAY
SELECT CAST(least((SELECT min(occurred_at)
FROM records
WHERE account = $1), (SELECT min(occurred_at)
FROM feed_lines
WHERE account = $1)) AT TIME ZONE 'UTC' AS date);

-- MANY_AT_ONCE
SET LOCAL work_mem = '128MB';
SET LOCAL jit = off;

-- HASHED
SET LOCAL enable_nestloop = off;

-- PLANNED
SET LOCAL enable_nestloop = on;

-- PENDING_DONE
DELETE
FROM pending
WHERE account = $1 AND (CAST($2 AS boolean) OR item IN (SELECT item
FROM run_scope
WHERE run = $3));

-- PENDING_ADD
INSERT INTO pending (account, item, movement, key, check_at)
SELECT $1, item, movement, key, check_at
FROM run_lines
WHERE run = $2 AND state = 'PENDING';
