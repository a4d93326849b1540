-- UNDECIDED
state IN ('PROPOSED', 'APPROVED');

-- OVERDUE
SELECT 'collection', count(*)
FROM collections
WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes' UNION ALL
SELECT 'withdrawal', count(*)
FROM withdrawals
WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes' UNION ALL
SELECT 'loan_repayment', count(*)
FROM repayments
WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes' UNION ALL
SELECT 'loan_disbursement', count(*)
FROM loan_parts
WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes' UNION ALL
SELECT 'member_onboarding', count(*)
FROM members
WHERE state = 'REGISTERED' AND registered_at < now() - interval '10 minutes' UNION ALL
SELECT 'suspense_allocation', count(*)
FROM assignments
WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes' UNION ALL
SELECT 'return_receipt', count(*)
FROM returns
WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes' UNION ALL
SELECT 'dividend_run', count(*)
FROM dividend_runs
WHERE state = 'APPROVED' AND approved_at < now() - interval '10 minutes' UNION ALL
SELECT 'dividend_chunk', count(*)
FROM dividend_chunks
WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes' UNION ALL
SELECT 'dividend_wave', count(*)
FROM dividend_waves
WHERE state = 'REQUESTED' AND requested_at < now() - interval '10 minutes' UNION ALL
SELECT 'dividend_payout', count(*)
FROM dividend_lines
WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes';
