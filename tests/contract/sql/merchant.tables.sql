-- INSERT_PAYMENTS
WITH row AS (SELECT *
FROM unnest(CAST($1 AS bytea[]), CAST($2 AS bytea[]), CAST($3 AS bigint[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS boolean[]), CAST($7 AS bigint[]), CAST($8 AS text[]), CAST($9 AS text[]), CAST($10 AS text[]), CAST($11 AS text[]), CAST($12 AS text[]), CAST($13 AS text[]), CAST($14 AS text[]), CAST($15 AS text[]), CAST($16 AS integer[]), CAST($17 AS bigint[]), CAST($18 AS bigint[]), CAST($19 AS timestamptz[])) AS row (digest, fingerprint, payment_id, saga_id, merchant_id, is_live, amount_minor, currency, capture, reference, metadata, method_type, holder_name, gateway_account, gateway, basis_points, fixed_minor, fee_minor, created_at)), claimed AS (INSERT INTO idempotency_keys (digest, fingerprint, payment_id, created_at)
SELECT digest, fingerprint, payment_id, created_at
FROM row)
INSERT INTO payments (payment_id, saga_id, merchant_id, is_live, amount_minor, currency, capture, reference, metadata, method_type, holder_name, gateway_account, gateway, basis_points, fixed_minor, fee_minor, created_at, status, captured_minor, disputed_minor, dispute_won_minor, dispute_lost_minor)
SELECT payment_id, saga_id, merchant_id, is_live, amount_minor, currency, capture, reference, CAST(metadata AS jsonb), method_type, holder_name, gateway_account, gateway, basis_points, fixed_minor, fee_minor, created_at, 'PENDING', 0, 0, 0, 0
FROM row;

-- PAYMENTS
SELECT payment_id, saga_id, merchant_id, is_live, status, amount_minor, currency, capture, reference, metadata, method_type, holder_name, gateway_account, gateway, basis_points, fixed_minor, fee_minor, captured_minor, gateway_payment_id, expires_at, failure_cause, failure_step, failure_reason, disputed_minor, dispute_won_minor, dispute_lost_minor, created_at, cancellation_requested_at, cancellation_reason, late_void_id, authorized_at, captured_at, committed_at, voided_at, failed_at, expired_at, capture_failed_at, completed_at
FROM payments
WHERE payment_id = ANY(CAST($1 AS bigint[]));

-- OPERATIONS
SELECT operation_id, payment_id, saga_id, kind, state, amount_minor, fee_minor, reason, failure_reason, created_at, decided_at
FROM operations
WHERE payment_id = ANY(CAST($1 AS bigint[]))
ORDER BY operation_id;

-- LOCK_PAYMENTS
SELECT payment_id, saga_id, merchant_id, is_live, status, amount_minor, currency, capture, reference, metadata, method_type, holder_name, gateway_account, gateway, basis_points, fixed_minor, fee_minor, captured_minor, gateway_payment_id, expires_at, failure_cause, failure_step, failure_reason, disputed_minor, dispute_won_minor, dispute_lost_minor, created_at, cancellation_requested_at, cancellation_reason, late_void_id, authorized_at, captured_at, committed_at, voided_at, failed_at, expired_at, capture_failed_at, completed_at
FROM payments
WHERE payment_id IN (SELECT unnest(CAST($1 AS bigint[])) UNION
SELECT payment_id
FROM payments
WHERE saga_id = ANY(CAST($2 AS text[])) UNION
SELECT payment_id
FROM operations
WHERE saga_id = ANY(CAST($2 AS text[])))
ORDER BY payment_id FOR UPDATE;

-- SAVE_FACTS
UPDATE payments
SET status = row.status, captured_minor = row.captured_minor, gateway_payment_id = row.gateway_payment_id, expires_at = row.expires_at, failure_cause = row.failure_cause, failure_step = row.failure_step, failure_reason = row.failure_reason, disputed_minor = row.disputed_minor, dispute_won_minor = row.dispute_won_minor, dispute_lost_minor = row.dispute_lost_minor, authorized_at = row.authorized_at, captured_at = row.captured_at, committed_at = row.committed_at, voided_at = row.voided_at, failed_at = row.failed_at, expired_at = row.expired_at, capture_failed_at = row.capture_failed_at, completed_at = row.completed_at
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS bigint[]), CAST($4 AS text[]), CAST($5 AS timestamptz[]), CAST($6 AS text[]), CAST($7 AS text[]), CAST($8 AS text[]), CAST($9 AS bigint[]), CAST($10 AS bigint[]), CAST($11 AS bigint[]), CAST($12 AS timestamptz[]), CAST($13 AS timestamptz[]), CAST($14 AS timestamptz[]), CAST($15 AS timestamptz[]), CAST($16 AS timestamptz[]), CAST($17 AS timestamptz[]), CAST($18 AS timestamptz[]), CAST($19 AS timestamptz[])) AS row (payment_id, status, captured_minor, gateway_payment_id, expires_at, failure_cause, failure_step, failure_reason, disputed_minor, dispute_won_minor, dispute_lost_minor, authorized_at, captured_at, committed_at, voided_at, failed_at, expired_at, capture_failed_at, completed_at)
WHERE payments.payment_id = row.payment_id;

-- SAVE_OPERATIONS
UPDATE operations
SET state = row.state, failure_reason = row.failure_reason, decided_at = row.decided_at
FROM unnest(CAST($1 AS bigint[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS timestamptz[])) AS row (operation_id, state, failure_reason, decided_at)
WHERE operations.operation_id = row.operation_id;

-- INSERT_OPERATION
INSERT INTO operations (operation_id, payment_id, saga_id, kind, state, amount_minor, fee_minor, reason, created_at) VALUES ($1, $2, $3, $4, 'PENDING', $5, $6, $7, $8);

-- REQUEST_CANCELLATION
UPDATE payments
SET cancellation_requested_at = $1, cancellation_reason = $2, late_void_id = $3
WHERE payment_id = $4 AND cancellation_requested_at IS NULL;

-- ENDED
SELECT payment_id
FROM payments
WHERE payment_id = ANY($1) AND (committed_at IS NOT NULL OR failed_at IS NOT NULL);

-- PAGE
SELECT payment_id, saga_id, merchant_id, is_live, status, amount_minor, currency, capture, reference, metadata, method_type, holder_name, gateway_account, gateway, basis_points, fixed_minor, fee_minor, captured_minor, gateway_payment_id, expires_at, failure_cause, failure_step, failure_reason, disputed_minor, dispute_won_minor, dispute_lost_minor, created_at, cancellation_requested_at, cancellation_reason, late_void_id, authorized_at, captured_at, committed_at, voided_at, failed_at, expired_at, capture_failed_at, completed_at
FROM payments
WHERE merchant_id = $1 AND is_live = $2 AND payment_id < $3 AND (CAST($4 AS text) IS NULL OR status = $4) AND (CAST($5 AS text) IS NULL OR currency = $5) AND (CAST($6 AS text) IS NULL OR reference = $6) AND (CAST($7 AS timestamptz) IS NULL OR created_at >= $7) AND (CAST($8 AS timestamptz) IS NULL OR created_at < $8)
ORDER BY payment_id DESC
LIMIT $9;

-- OVERDUE
SELECT 'payment', count(*)
FROM payments
WHERE committed_at IS NULL AND failed_at IS NULL AND created_at < now() - interval '10 minutes' UNION ALL
SELECT 'merchant_onboarding', count(*)
FROM merchants
WHERE state = 'REGISTERED' AND registered_at < now() - interval '10 minutes' UNION ALL
SELECT 'capture_later', count(*)
FROM operations
WHERE kind = 'CAPTURE' AND decided_at IS NULL AND created_at < now() - interval '10 minutes' UNION ALL
SELECT 'void_payment', count(*)
FROM operations
WHERE kind = 'VOID' AND decided_at IS NULL AND created_at < now() - interval '10 minutes' UNION ALL
SELECT 'refund', count(*)
FROM operations
WHERE kind = 'REFUND' AND decided_at IS NULL AND created_at < now() - interval '10 minutes';
