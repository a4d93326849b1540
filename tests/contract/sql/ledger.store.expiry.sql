-- EXPIRED
SELECT reference, expires_at
FROM transfers AS hold
WHERE kind = 'HOLD' AND expires_at IS NOT NULL AND expires_at > $1 AND expires_at <= $2 AND NOT EXISTS (SELECT
FROM transfers
WHERE of_id = hold.id AND kind IN ('POST', 'VOID'))
ORDER BY expires_at
LIMIT $3;
