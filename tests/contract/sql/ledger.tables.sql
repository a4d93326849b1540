-- IMBALANCE
SELECT currency, sum(abs(difference))
FROM (SELECT chart, currency, sum(debits) - sum(credits) AS difference
FROM balances JOIN accounts ON accounts.id = account_id GROUP BY chart, currency) AS books GROUP BY currency;

-- OVERDUE
SELECT 'manual_posting', count(*)
FROM manual_postings
WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes';
