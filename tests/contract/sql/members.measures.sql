-- COUNT
SELECT count(*)
FROM receipts
WHERE state = 'SUSPENSE';

-- SUM
SELECT currency, sum(amount_minor)
FROM receipts
WHERE state = 'SUSPENSE' GROUP BY currency;

-- OLDEST
SELECT coalesce(extract(epoch
FROM now() - min(recorded_at)), 0)
FROM receipts
WHERE state = 'SUSPENSE';

-- UNPAID
SELECT dividend_runs.short_code, sum(dividend_lines.net_minor)
FROM dividend_lines JOIN dividend_runs USING (run_id)
WHERE dividend_runs.state IN ('APPROVED', 'DECLARED', 'POSTING', 'PAYING') AND dividend_lines.destination = 'MOBILE' AND dividend_lines.state IN ('PENDING', 'POSTED') GROUP BY dividend_runs.short_code;
