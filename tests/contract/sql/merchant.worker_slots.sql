-- LEASE
UPDATE worker_slots
SET holder = $1, leased_until = now() + CAST($2 AS interval), last_ms = greatest(last_ms, $3) + $4
WHERE slot = (SELECT slot
FROM worker_slots
WHERE leased_until <= now()
ORDER BY leased_until, slot
LIMIT 1
FOR UPDATE SKIP LOCKED)
RETURNING slot, last_ms;

-- RENEW
UPDATE worker_slots
SET leased_until = now() + CAST($1 AS interval), last_ms = greatest(last_ms, $2 + $3)
WHERE slot = $4 AND holder = $5 AND leased_until > now()
RETURNING slot, last_ms;

-- RELEASE
UPDATE worker_slots
SET holder = NULL, leased_until = now(), last_ms = $1
WHERE slot = $2 AND holder = $3 AND last_ms >= $1;
