-- ADD_TRANSFERS
INSERT INTO transfers (id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late, entry_count, saga_id, step, message_id, payment_id, payment_version, payment_status)
SELECT id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late, entry_count, saga_id, step, message_id, payment_id, payment_version, payment_status
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS bigint[]), CAST($5 AS timestamptz[]), CAST($6 AS timestamptz[]), CAST($7 AS timestamptz[]), CAST($8 AS numeric[]), CAST($9 AS boolean[]), CAST($10 AS smallint[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS text[]), CAST($15 AS integer[]), CAST($16 AS text[])) AS row (id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late, entry_count, saga_id, step, message_id, payment_id, payment_version, payment_status);

-- ADD_ENTRIES
INSERT INTO transfer_entries (transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at, effective_at, debits_after, credits_after)
SELECT transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at, effective_at, debits_after, credits_after
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS smallint[]), CAST($3 AS bigint[]), CAST($4 AS smallint[]), CAST($5 AS bigint[]), CAST($6 AS boolean[]), CAST($7 AS timestamptz[]), CAST($8 AS timestamptz[]), CAST($9 AS numeric(38, 0)[]), CAST($10 AS numeric(38, 0)[])) AS row (transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at, effective_at, debits_after, credits_after);

-- CHANGE_BALANCES
UPDATE balances
SET debits = row.debits, credits = row.credits, held_debits = row.held_debits, held_credits = row.held_credits, booked_at = $1
FROM unnest(CAST($2 AS bigint[]), CAST($3 AS smallint[]), CAST($4 AS numeric(38, 0)[]), CAST($5 AS numeric(38, 0)[]), CAST($6 AS numeric(38, 0)[]), CAST($7 AS numeric(38, 0)[])) AS row (account_id, lane, debits, credits, held_debits, held_credits)
WHERE balances.account_id = row.account_id AND balances.lane = row.lane;

-- ADD_PAYMENTS
INSERT INTO payments (payment_id, version, status, owner, currency, authorized_minor, captured_minor, fee_minor, refunding_minor, refunded_minor, disputed_minor, updated_at)
SELECT payment_id, version, status, owner, currency, authorized_minor, captured_minor, fee_minor, refunding_minor, refunded_minor, disputed_minor, $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS integer[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS bigint[]), CAST($9 AS bigint[]), CAST($10 AS bigint[]), CAST($11 AS bigint[]), CAST($12 AS bigint[])) AS row (payment_id, version, status, owner, currency, authorized_minor, captured_minor, fee_minor, refunding_minor, refunded_minor, disputed_minor);

-- CHANGE_PAYMENTS
UPDATE payments
SET version = row.version, status = row.status, owner = row.owner, currency = row.currency, authorized_minor = row.authorized_minor, captured_minor = row.captured_minor, fee_minor = row.fee_minor, refunding_minor = row.refunding_minor, refunded_minor = row.refunded_minor, disputed_minor = row.disputed_minor, updated_at = $1
FROM unnest(CAST($2 AS text[]), CAST($3 AS integer[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[]), CAST($7 AS bigint[]), CAST($8 AS bigint[]), CAST($9 AS bigint[]), CAST($10 AS bigint[]), CAST($11 AS bigint[]), CAST($12 AS bigint[])) AS row (payment_id, version, status, owner, currency, authorized_minor, captured_minor, fee_minor, refunding_minor, refunded_minor, disputed_minor)
WHERE payments.payment_id = row.payment_id AND payments.version < row.version;

-- ADD_BATCHES
INSERT INTO batches (id, transfer_count, booked_at)
SELECT id, transfer_count, $1
FROM unnest(CAST($2 AS bigint[]), CAST($3 AS smallint[])) AS row (id, transfer_count);
