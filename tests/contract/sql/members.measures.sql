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
