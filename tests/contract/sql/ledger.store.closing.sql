-- LOCK
SELECT pg_advisory_xact_lock($1);

-- LAST
SELECT max(day)
FROM day_closes
WHERE chart = $1;

-- NEXT_ID
SELECT (coalesce(max(id), 0) + 1) << 10
FROM batches;

-- SETTLE
DO $$ DECLARE next_id bigint; BEGIN BEGIN PERFORM pg_advisory_xact_lock(7810759522288402433);
SELECT (coalesce(max(id), 0) + 1) << 10 INTO next_id
FROM batches; RAISE EXCEPTION 'releases the lock'; EXCEPTION WHEN raise_exception THEN END; PERFORM set_config('ledger.settled_id', CAST(next_id AS text), true); END $$;

-- SETTLED_ID
SELECT CAST(current_setting('ledger.settled_id') AS bigint);

-- ADD_CLOSE
INSERT INTO day_closes (chart, day, closed_until, closed_at, root, heads, first_open_id, next_id, last_account_id, accounts_digest) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- ADD_TOTALS
INSERT INTO day_totals (chart, day, code, currency, debits, credits) VALUES ($1, $2, $3, $4, $5, $6);
