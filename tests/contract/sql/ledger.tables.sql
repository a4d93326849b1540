-- IMBALANCE
SELECT currency, sum(abs(difference))
FROM (SELECT chart, currency, sum(debits) - sum(credits) AS difference
FROM balances JOIN accounts ON accounts.id = account_id GROUP BY chart, currency) AS books GROUP BY currency;
