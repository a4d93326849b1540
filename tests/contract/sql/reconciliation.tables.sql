-- DIVERGENCES_OPEN
SELECT kind, count(*)
FROM divergences
WHERE state = 'OPEN' GROUP BY kind;

-- LAG
SELECT coalesce(extract(epoch
FROM now() - min(coalesce(run_at, since))), 0)
FROM progress;

-- FEEDS_REFUSED
SELECT count(*)
FROM feed_files
WHERE refusal IS NOT NULL AND NOT EXISTS (SELECT
FROM feed_files AS later
WHERE later.account = feed_files.account AND later.name = feed_files.name AND later.version > feed_files.version);

-- OVERDUE
SELECT 'settlement', count(*)
FROM settlements
WHERE state = 'REPORTED' AND reported_at < now() - interval '10 minutes';
