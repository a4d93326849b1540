-- IMBALANCE
SELECT currency, sum(debits) - sum(credits)
FROM balances JOIN accounts ON accounts.id = account_id GROUP BY currency;
