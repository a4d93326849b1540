"""A SACCO's money for the audit: consistent rows, and damage by the invariant that finds it."""

from __future__ import annotations

SACCO = """
    INSERT INTO money_receipts VALUES ('daraja', '600100', 'RKT1', 'r1', 'COMPLETED', 50000),
        ('daraja', '600100', 'RKT2', 'r2', 'UNCONFIRMED', 7000);
    INSERT INTO booked_receipts VALUES ('daraja', '600100', 'RKT1', 'ALLOCATED', 50000);
    INSERT INTO money_payouts VALUES ('w1', '600100', 'RKW1', 'PAID', 150000),
        ('w2', '600100', NULL, 'FAILED', 9000), ('w3', '600100', NULL, 'REQUESTED', 4000);
    INSERT INTO booked_payouts VALUES ('w1', '600100', 'PAID', 150000), ('w2', '600100', 'RELEASED', 9000),
        ('w3', '600100', 'HELD', 4000);
    INSERT INTO money_rows VALUES ('600100', 'RKT1', 'UTILITY', 'IN', 50000, 'MATCHED', 'r1', NULL),
        ('600100', 'RKW1', 'UTILITY', 'OUT', -150000, 'MATCHED', 'w1', NULL),
        ('600100', 'RKX9', 'UTILITY', 'TRANSFER', -1000, 'LISTED', NULL, 'transfer');
    INSERT INTO money_callbacks VALUES ('c1', 'APPLIED', NULL), ('c2', 'REFUSED', 'amount'), ('c3', 'ORPHAN', NULL);
    INSERT INTO money_claims VALUES ('k1', 'APPROVED', 'ann', 'zuri'), ('k2', 'PROPOSED', 'ann', NULL);
"""
SACCO_DAMAGE = (
    ("one posting is lost", "DELETE FROM booked_receipts", "sacco-receipts-booked", "RKT1"),
    ("one cent of a receipt is changed", "UPDATE booked_receipts SET amount_minor = 50001", "sacco-receipts-booked",
     "RKT1"),
    ("one credit is doubled", "INSERT INTO booked_receipts SELECT * FROM booked_receipts", "sacco-receipts-booked",
     "RKT1"),
    ("a credit that no money brought",
     "INSERT INTO booked_receipts VALUES ('daraja', '600100', 'RKT7', 'ALLOCATED', 5)",
     "sacco-receipts-booked", "RKT7"),
    ("an unconfirmed receipt is credited",
     "INSERT INTO booked_receipts VALUES ('daraja', '600100', 'RKT2', 'ALLOCATED', 7000)", "sacco-receipts-booked",
     "RKT2"),
    ("a row is of no receipt", "UPDATE money_rows SET receipt = 'RKT8' WHERE kind = 'IN'", "sacco-rows-are-receipts",
     "RKT8"),
    ("a row is listed without a reason", "UPDATE money_rows SET reason = NULL", "sacco-rows-are-receipts", "RKX9"),
    ("a payout is paid twice", "INSERT INTO money_rows VALUES ('600100', 'RKW2', 'UTILITY', 'OUT', -150000, 'MATCHED',"
     " 'w1', NULL)", "sacco-rows-are-payouts", "w1"),
    ("one cent of a payout's row is changed", "UPDATE money_rows SET amount_minor = -150001 WHERE kind = 'OUT'",
     "sacco-rows-are-payouts", "RKW1"),
    ("one hold is released of what is paid", "UPDATE booked_payouts SET state = 'RELEASED' WHERE saga_id = 'w1'",
     "sacco-paid-not-released", "w1"),
    ("the ledger pays what is in doubt", "UPDATE booked_payouts SET state = 'PAID' WHERE saga_id = 'w3'",
     "sacco-payouts-booked", "w3"),
    ("one cent of a payout is changed", "UPDATE booked_payouts SET amount_minor = 150001 WHERE saga_id = 'w1'",
     "sacco-payouts-booked", "w1"),
    ("a callback is not decided", "UPDATE money_callbacks SET fate = NULL WHERE id = 'c1'", "sacco-callbacks-decided",
     "c1"),
    ("a refused callback has no reason", "UPDATE money_callbacks SET reason = NULL", "sacco-callbacks-decided", "c2"),
    ("a person approves an own claim", "UPDATE money_claims SET decided_by = 'ANN' WHERE id = 'k1'",
     "sacco-claimed-by-two", "k1"),
)  # fmt: skip
