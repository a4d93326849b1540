-- OLDEST
SELECT coalesce(now() - min(created_at), interval '0')
FROM outbox;
