"""A SACCO's money for the audit: consistent rows, and damage by the invariant that finds it."""

from __future__ import annotations

SAGAS = """
    INSERT INTO sagas VALUES ('r1', 'receipt', 1, 'CONFIRMED', NULL, 0, 0),
        ('r3', 'receipt', 1, 'CONFIRMED', NULL, 0, 0),
        ('r4', 'receipt', 1, 'CONFIRMED', NULL, 0, 0), ('rr1', 'return_receipt', 1, 'CONFIRMED', NULL, 0, 0),
        ('co1', 'collection', 1, 'CONFIRMED', NULL, 0, 0),
        ('co2', 'collection', 1, 'CANCELLED_COMPENSATED', NULL, 0, 0),
        ('w1', 'withdrawal', 1, 'CONFIRMED', NULL, 0, 0),
        ('w2', 'withdrawal', 1, 'CANCELLED_COMPENSATED', NULL, 0, 0),
        ('w3', 'withdrawal', 1, 'IN_DOUBT', 'no result', 5, 1),
        ('w4', 'withdrawal', 1, 'INCIDENT', 'it was FAILED, and is SUCCEEDED', 0, 0),
        ('l1', 'loan_disbursement', 1, 'CONFIRMED', NULL, 0, 0),
        ('d1', 'dividend_payout', 1, 'CONFIRMED', NULL, 0, 0),
        ('d2', 'dividend_payout', 1, 'CANCELLED_COMPENSATED', NULL, 0, 0);
    INSERT INTO effects SELECT saga_id, step, service, 'DONE' FROM sagas JOIN steps USING (saga_type, saga_version)
        WHERE saga_id IN ('r1', 'r3', 'r4', 'rr1', 'co1', 'w1', 'l1', 'd1');
    INSERT INTO effects VALUES ('co2', 'send_prompt', 'mobile-money', 'REJECTED'),
        ('w2', 'place_hold', 'ledger', 'UNDONE'), ('w2', 'reserve_float', 'mobile-money', 'UNDONE'),
        ('w2', 'send_payout', 'mobile-money', 'REJECTED'), ('w3', 'place_hold', 'ledger', 'DONE'),
        ('w3', 'reserve_float', 'mobile-money', 'DONE'), ('w3', 'send_payout', 'mobile-money', 'UNSURE'),
        ('w4', 'place_hold', 'ledger', 'UNDONE'), ('w4', 'reserve_float', 'mobile-money', 'UNDONE'),
        ('w4', 'send_payout', 'mobile-money', 'REJECTED'), ('d2', 'place_hold', 'ledger', 'UNDONE'),
        ('d2', 'send_payout', 'mobile-money', 'REJECTED');
    INSERT INTO replies VALUES ('w2', 'place_hold'), ('w2', 'reserve_float'), ('d2', 'place_hold'),
        ('w4', 'place_hold'), ('w4', 'reserve_float');
"""
"""Receipts, one of them returned; withdrawals that are paid, released, in doubt, and paid after their release."""

DAY = 86_389_200
"""The beginning of a day in Nairobi."""

MONEY = f"""
    INSERT INTO money_receipts VALUES ('daraja', '600100', 'RKT1', 'r1', 'COMPLETED', 50000, {DAY + 3600}),
        ('daraja', '600100', 'RKT2', 'r2', 'UNCONFIRMED', 7000, {DAY + 3700}),
        ('daraja', '600100', 'RKT3', 'r3', 'COMPLETED', 8000, {DAY + 7200}),
        ('daraja', '600100', 'RKT4', 'r4', 'COMPLETED', 6000, {DAY + 7300});
    INSERT INTO money_prompts VALUES ('co1', 'PAID', 'RKT1'), ('co2', 'FAILED', NULL);
    INSERT INTO money_payouts VALUES ('w1', 'daraja', '600100', 'RKW1', 'PAID', 150000, 1300, '1972-09-27'),
        ('w2', 'daraja', '600100', NULL, 'FAILED', 9000, 0, NULL),
        ('w3', 'daraja', '600100', NULL, 'REQUESTED', 4000, 0, NULL),
        ('w4', 'daraja', '600100', NULL, 'FAILED', 3000, 0, NULL),
        ('l1', 'daraja', '600100', 'RKL1', 'PAID', 20000, 500, '1972-09-27'),
        ('d1', 'daraja', '600100', 'RKD1', 'PAID', 950, 0, '1972-09-27'),
        ('d2', 'daraja', '600100', NULL, 'FAILED', 1900, 0, NULL);
    INSERT INTO money_reversals VALUES ('rr1', '600100', 'RKT4', 'PAID', 6000, 'RKV4');
    INSERT INTO money_own_ids VALUES ('BCO1', 'co1', 'send_prompt'), ('BW1', 'w1', 'send_payout'),
        ('BW2', 'w2', 'send_payout'), ('BW3', 'w3', 'send_payout'), ('BW4', 'w4', 'send_payout'),
        ('BL1', 'l1', 'send_payout'), ('BD1', 'd1', 'send_payout'), ('BD2', 'd2', 'send_payout'),
        ('BRR1', 'rr1', 'send_reversal');
    INSERT INTO money_evidence VALUES ('e1', 'w1', 'send_payout'), ('e2', 'w4', 'send_payout');
    INSERT INTO money_callbacks VALUES ('c1', 'APPLIED', NULL), ('c2', 'REFUSED', 'amount'), ('c3', 'ORPHAN', NULL);
    INSERT INTO money_claims VALUES ('k1', 'p1', 'APPROVED', 'ann', 'zuri'), ('k2', 'w9', 'PROPOSED', 'ann', NULL);
    INSERT INTO persons VALUES ('w3', 'juma');
    INSERT INTO money_tariffs VALUES ('daraja', '1970-01-01', 10000, 0), ('daraja', '1970-01-01', 25000000, 700),
        ('daraja', '1972-01-01', 10000, 0), ('daraja', '1972-01-01', 100000, 500),
        ('daraja', '1972-01-01', 25000000, 1300), ('daraja', '1973-01-01', 25000000, 9900);
"""  # noqa: S608 - constants of our own
"""A receipt that only a callback has brought credits nothing. The tariff is that of the day."""

STATEMENTS = f"""
    INSERT INTO money_files VALUES
        ('f-utility', '600100', 'UTILITY', {DAY}, {DAY + 86400}, {DAY + 86400}, 0, 883050),
        ('f-working', '600100', 'WORKING', {DAY}, {DAY + 86400}, {DAY + 86400}, 0, 0),
        ('f-charges', '600100', 'CHARGES', {DAY}, {DAY + 86400}, {DAY + 86400}, 0, -1800);
    INSERT INTO money_rows
    SELECT '600100', receipt, account, kind, amount, balance, {DAY} + after_s, {DAY + 86400}, place, match, saga, reason
    FROM (
        SELECT NULL AS receipt, NULL AS account, NULL AS kind, NULL AS amount, NULL AS balance, NULL AS after_s,
               NULL AS place, NULL AS match, NULL AS saga, NULL AS reason WHERE 0
        UNION ALL VALUES
        ('RKF1', 'UTILITY', 'TRANSFER', 1000000, 1000000, 100, 1, 'MATCHED', 'p1', 'booked by hand'),
        ('RKT1', 'UTILITY', 'IN', 50000, 1050000, 3600, 2, 'MATCHED', 'r1', NULL),
        ('RKT3', 'UTILITY', 'IN', 8000, 1058000, 7200, 3, 'MATCHED', 'r3', NULL),
        ('RKT4', 'UTILITY', 'IN', 6000, 1064000, 7300, 4, 'MATCHED', 'r4', NULL),
        ('RKV4', 'UTILITY', 'REVERSAL', -6000, 1058000, 9000, 5, 'MATCHED', 'rr1', NULL),
        ('RKW1', 'UTILITY', 'OUT', -150000, 908000, 10000, 6, 'MATCHED', 'w1', NULL),
        ('RKL1', 'UTILITY', 'OUT', -20000, 888000, 10000, 7, 'MATCHED', 'l1', NULL),
        ('RKD1', 'UTILITY', 'OUT', -950, 887050, 12000, 8, 'MATCHED', 'd1', NULL),
        ('RKX9', 'UTILITY', 'TRANSFER', -1000, 886050, 13000, 9, 'LISTED', NULL, 'a transfer between accounts'),
        ('RKW4', 'UTILITY', 'OUT', -3000, 883050, 14000, 10, 'MATCHED', 'w4', NULL),
        ('RKW1', 'CHARGES', 'CHARGE', -1300, -1300, 10000, 1, 'MATCHED', 'w1', NULL),
        ('RKL1', 'CHARGES', 'CHARGE', -500, -1800, 10000, 2, 'MATCHED', 'l1', NULL)
    );
"""  # noqa: S608 - constants of our own

ENTERED = f"""
    INSERT INTO booked_receipts VALUES
        ('r1', 'daraja', '600100', 'RKT1', 'KES', 'ALLOCATED', 50000, 'r1', NULL),
        ('r3', 'daraja', '600100', 'RKT3', 'KES', 'UNALLOCATED', 8000, NULL, NULL),
        ('r4', 'daraja', '600100', 'RKT4', 'KES', 'RETURNED', 6000, NULL, 'rr1');
    INSERT INTO booked_payouts VALUES ('w1', '600100', 'SAVINGS', 'A', 'KES', 'PAID', 150000, 0),
        ('w2', '600100', 'SAVINGS', 'A', 'KES', 'RELEASED', 9000, 0),
        ('w3', '600100', 'SAVINGS', 'A', 'KES', 'HELD', 4000, 5),
        ('w4', '600100', 'SAVINGS', 'A', 'KES', 'RELEASED', 3000, 0),
        ('l1', '600100', 'LOAN', 'A', 'KES', 'PAID', 20000, 0),
        ('d1', '600100', 'DIVIDEND', 'B', 'KES', 'PAID', 950, 0),
        ('d2', '600100', 'DIVIDEND', 'C', 'KES', 'RELEASED', 1900, 0);
    INSERT INTO booked_loans VALUES ('LN1', 'KES', 'ACTIVE', 20000, 20000, 10000);
    INSERT INTO sacco_entries
    SELECT saga, step, is_undo, code, owner, 'KES', amount, {DAY} + after_s
    FROM (
        SELECT NULL AS saga, NULL AS step, NULL AS is_undo, NULL AS code, NULL AS owner, NULL AS amount, NULL AS after_s
        WHERE 0
        UNION ALL VALUES
        ('p1', 'post_manual_posting', 0, 'utility', '600100', 1000000, 50),
        ('p1', 'post_manual_posting', 0, 'bank', NULL, -1000000, 50),
        ('r1', 'record_receipt', 0, 'utility', '600100', 50000, 3600),
        ('r1', 'record_receipt', 0, 'unallocated', NULL, -50000, 3600),
        ('r1', 'post_allocation', 0, 'unallocated', NULL, 50000, 3600),
        ('r1', 'post_allocation', 0, 'fosa', 'A', -40000, 3600),
        ('r1', 'post_allocation', 0, 'loan', 'LN1', -10000, 3600),
        ('r3', 'record_receipt', 0, 'utility', '600100', 8000, 7200),
        ('r3', 'record_receipt', 0, 'unallocated', NULL, -8000, 7200),
        ('r4', 'record_receipt', 0, 'utility', '600100', 6000, 7300),
        ('r4', 'record_receipt', 0, 'unallocated', NULL, -6000, 7300),
        ('rr1', 'hold_return', 0, 'unallocated', NULL, 6000, 8000),
        ('rr1', 'hold_return', 0, 'returns_in_transit', 'rr1', -6000, 8000),
        ('rr1', 'commit_return', 0, 'returns_in_transit', 'rr1', 6000, 9000),
        ('rr1', 'commit_return', 0, 'utility', '600100', -6000, 9000),
        ('w1', 'place_hold', 0, 'fosa', 'A', 152300, 9500),
        ('w1', 'place_hold', 0, 'payout_in_transit', 'w1', -150000, 9500),
        ('w1', 'place_hold', 0, 'fees_held', NULL, -2300, 9500),
        ('w1', 'commit_payout', 0, 'payout_in_transit', 'w1', 150000, 10000),
        ('w1', 'commit_payout', 0, 'fees_held', NULL, 2300, 10000),
        ('w1', 'commit_payout', 0, 'costs', NULL, 1300, 10000),
        ('w1', 'commit_payout', 0, 'utility', '600100', -150000, 10000),
        ('w1', 'commit_payout', 0, 'fees', NULL, -2000, 10000),
        ('w1', 'commit_payout', 0, 'excise', NULL, -300, 10000),
        ('w1', 'commit_payout', 0, 'charges_payable', '600100', -1300, 10000),
        ('w2', 'place_hold', 0, 'fosa', 'A', 9300, 9600),
        ('w2', 'place_hold', 0, 'payout_in_transit', 'w2', -9000, 9600),
        ('w2', 'place_hold', 0, 'fees_held', NULL, -300, 9600),
        ('w2', 'place_hold', 1, 'fosa', 'A', -9300, 9700),
        ('w2', 'place_hold', 1, 'payout_in_transit', 'w2', 9000, 9700),
        ('w2', 'place_hold', 1, 'fees_held', NULL, 300, 9700),
        ('w3', 'place_hold', 0, 'fosa', 'A', 4200, 9600),
        ('w3', 'place_hold', 0, 'payout_in_transit', 'w3', -4000, 9600),
        ('w3', 'place_hold', 0, 'fees_held', NULL, -200, 9600),
        ('w4', 'place_hold', 0, 'fosa', 'A', 3000, 9600),
        ('w4', 'place_hold', 0, 'payout_in_transit', 'w4', -3000, 9600),
        ('w4', 'place_hold', 1, 'fosa', 'A', -3000, 9700),
        ('w4', 'place_hold', 1, 'payout_in_transit', 'w4', 3000, 9700),
        ('l1', 'place_hold', 0, 'loans_in_transit', 'LN1', 20000, 9600),
        ('l1', 'place_hold', 0, 'payout_in_transit', 'l1', -20000, 9600),
        ('l1', 'commit_payout', 0, 'payout_in_transit', 'l1', 20000, 10000),
        ('l1', 'commit_payout', 0, 'costs', NULL, 500, 10000),
        ('l1', 'commit_payout', 0, 'utility', '600100', -20000, 10000),
        ('l1', 'commit_payout', 0, 'charges_payable', '600100', -500, 10000),
        ('l1', 'commit_payout', 0, 'loan', 'LN1', 20000, 10000),
        ('l1', 'commit_payout', 0, 'loans_in_transit', 'LN1', -20000, 10000),
        ('dr', 'declare_dividend', 0, 'appropriation', NULL, 4000, 9000),
        ('dr', 'declare_dividend', 0, 'dividends_declared', 'R1', -4000, 9000),
        ('dc', 'post_dividends', 0, 'dividends_declared', 'R1', 4000, 9100),
        ('dc', 'post_dividends', 0, 'withholding_tax', NULL, -200, 9100),
        ('dc', 'post_dividends', 0, 'fosa', 'A', -950, 9100),
        ('dc', 'post_dividends', 0, 'dividends_payable', 'B', -950, 9100),
        ('dc', 'post_dividends', 0, 'dividends_payable', 'C', -1900, 9100),
        ('d1', 'place_hold', 0, 'dividends_payable', 'B', 950, 9200),
        ('d1', 'place_hold', 0, 'payout_in_transit', 'd1', -950, 9200),
        ('d1', 'commit_payout', 0, 'payout_in_transit', 'd1', 950, 12000),
        ('d1', 'commit_payout', 0, 'utility', '600100', -950, 12000),
        ('d2', 'place_hold', 0, 'dividends_payable', 'C', 1900, 9200),
        ('d2', 'place_hold', 0, 'payout_in_transit', 'd2', -1900, 9200),
        ('d2', 'place_hold', 1, 'dividends_payable', 'C', -1900, 9300),
        ('d2', 'place_hold', 1, 'payout_in_transit', 'd2', 1900, 9300),
        ('db', 'post_dividends', 0, 'dividends_payable', 'C', 1900, 9400),
        ('db', 'post_dividends', 0, 'fosa', 'C', -1900, 9400)
    );
    INSERT INTO sacco_balances SELECT code, owner, currency, sum(amount_minor) FROM sacco_entries
        GROUP BY code, owner, currency;
"""  # noqa: S608 - constants of our own

MEMBERS = """
    INSERT INTO member_ids VALUES ('A'), ('B'), ('C');
    INSERT INTO member_receipts VALUES ('daraja', '600100', 'RKT1', 'ALLOCATED'),
        ('daraja', '600100', 'RKT3', 'SUSPENSE'), ('daraja', '600100', 'RKT4', 'RETURNED');
    INSERT INTO member_runs VALUES ('R1', 'KES', 'CLOSED', 3, 4000, 200, 3800);
    INSERT INTO member_lines VALUES ('R1:A:DIVIDEND', 'R1', 'A', 'SAVINGS', 'POSTED', 1000, 50, 950, NULL, 1, 0),
        ('R1:B:DIVIDEND', 'R1', 'B', 'MOBILE', 'PAID', 1000, 50, 950, 'd1', 1, 0),
        ('R1:C:DIVIDEND', 'R1', 'C', 'MOBILE', 'RETURNED', 2000, 100, 1900, 'd2', 1, 1);
"""

PROVIDERS = f"""
    INSERT INTO provider_clocks VALUES ('daraja', {DAY + 90000});
    INSERT INTO provider_entries
    SELECT 'daraja', row_number() OVER (), '600100', account, receipt, kind, amount, {DAY} + after_s, own_id, linked
    FROM (
        SELECT NULL AS account, NULL AS receipt, NULL AS kind, NULL AS amount, NULL AS after_s, NULL AS own_id,
               NULL AS linked WHERE 0
        UNION ALL VALUES
        ('utility', 'RKF1', 'float', 1000000, 100, NULL, NULL),
        ('utility', 'RKT1', 'pay_in', 50000, 3600, NULL, NULL),
        ('utility', 'RKT3', 'pay_in', 8000, 7200, NULL, NULL),
        ('utility', 'RKT4', 'pay_in', 6000, 7300, NULL, NULL),
        ('utility', 'RKV4', 'reversal', -6000, 9000, 'BRR1', 'RKT4'),
        ('utility', 'RKW1', 'pay_out', -150000, 10000, 'BW1', NULL),
        ('charges', 'RKW1', 'charge', -1300, 10000, 'BW1', NULL),
        ('utility', 'RKL1', 'pay_out', -20000, 10000, 'BL1', NULL),
        ('charges', 'RKL1', 'charge', -500, 10000, 'BL1', NULL),
        ('utility', 'RKD1', 'pay_out', -950, 12000, 'BD1', NULL),
        ('utility', 'RKX9', 'transfer', -1000, 13000, NULL, NULL),
        ('utility', 'RKW4', 'pay_out', -3000, 14000, 'BW4', NULL),
        ('utility', 'RKW3', 'pay_out', -4000, 89000, 'BW3', NULL),
        ('utility', 'RKT9', 'pay_in', 100, 89990, NULL, NULL)
    );
"""  # noqa: S608 - constants of our own
"""What is in doubt with us is paid, and a payment came ten seconds ago: neither contradicts anything."""

SACCO = SAGAS + MONEY + STATEMENTS + ENTERED + MEMBERS + PROVIDERS

SACCO_DAMAGE = (
    ("one posting is lost", "DELETE FROM booked_receipts WHERE receipt = 'RKT1'", "sacco-receipts-booked", "RKT1"),
    (
        "one cent of a receipt is changed",
        "UPDATE booked_receipts SET amount_minor = 50001 WHERE receipt = 'RKT1'",
        "sacco-receipts-booked",
        "RKT1",
    ),
    (
        "one credit is doubled",
        "INSERT INTO booked_receipts SELECT * FROM booked_receipts",
        "sacco-receipts-booked",
        "RKT1",
    ),
    (
        "a credit that no money brought",
        "INSERT INTO booked_receipts SELECT 'r7', provider, short_code, 'RKT7', currency,"
        " state, 5, 'r7', NULL FROM booked_receipts LIMIT 1",
        "sacco-receipts-booked",
        "RKT7",
    ),
    (
        "an unconfirmed receipt is credited",
        "INSERT INTO booked_receipts SELECT 'r2', provider, short_code, 'RKT2',"
        " currency, state, 7000, 'r2', NULL FROM booked_receipts LIMIT 1",
        "sacco-receipts-booked",
        "RKT2",
    ),
    (
        "the entries of a receipt are lost",
        "DELETE FROM sacco_entries WHERE saga_id = 'r1'",
        "sacco-receipts-are-entries",
        "RKT1",
    ),
    (
        "a receipt is entered twice",
        "INSERT INTO sacco_entries SELECT * FROM sacco_entries WHERE saga_id = 'r1'",
        "sacco-receipts-are-entries",
        "RKT1",
    ),
    (
        "one cent of an allocation is changed",
        "UPDATE sacco_entries SET amount_minor = 49999 WHERE saga_id = 'r1'"
        " AND step = 'post_allocation' AND code = 'unallocated'",
        "sacco-receipts-are-entries",
        "RKT1",
    ),
    (
        "money is received without a receipt",
        "UPDATE sacco_entries SET saga_id = 'r9' WHERE saga_id = 'r3'",
        "sacco-receipts-are-entries",
        "r9",
    ),
    (
        "one cent of what is unallocated is changed",
        "UPDATE sacco_balances SET balance_minor = -8001 WHERE code = 'unallocated'",
        "sacco-unallocated-is-listed",
        "unallocated KES",
    ),
    (
        "a receipt is on no work list",
        "DELETE FROM member_receipts WHERE receipt = 'RKT3'",
        "sacco-unallocated-is-listed",
        "RKT3",
    ),
    (
        "an allocated receipt is on the work list",
        "UPDATE member_receipts SET state = 'SUSPENSE'",
        "sacco-unallocated-is-listed",
        "RKT1",
    ),
    (
        "a row is of no receipt",
        "UPDATE money_rows SET receipt = 'RKT8' WHERE receipt = 'RKT1'",
        "sacco-rows-are-receipts",
        "RKT8",
    ),
    (
        "one cent of a row is changed",
        "UPDATE money_rows SET amount_minor = 50001 WHERE receipt = 'RKT1'",
        "sacco-rows-are-receipts",
        "RKT1",
    ),
    (
        "a receipt has another time",
        "UPDATE money_receipts SET completed_s = completed_s + 1000 WHERE receipt = 'RKT1'",
        "sacco-rows-are-receipts",
        "RKT1",
    ),
    ("a row is listed without a reason", "UPDATE money_rows SET reason = NULL", "sacco-rows-are-receipts", "RKX9"),
    (
        "a receipt is in no statement",
        "DELETE FROM money_rows WHERE receipt = 'RKT3'",
        "sacco-receipts-are-rows",
        "RKT3",
    ),
    (
        "the provider has a payment that we lost",
        "DELETE FROM money_receipts WHERE receipt = 'RKT3'",
        "sacco-receipts-are-the-providers",
        "RKT3",
    ),
    (
        "one cent differs from the provider's books",
        "UPDATE provider_entries SET amount_minor = 8001 WHERE receipt = 'RKT3'",
        "sacco-receipts-are-the-providers",
        "RKT3",
    ),
    (
        "the provider has nothing of a receipt",
        "DELETE FROM provider_entries WHERE receipt = 'RKT3'",
        "sacco-receipts-are-the-providers",
        "RKT3",
    ),
    (
        "the provider has a payment twice",
        "INSERT INTO provider_entries SELECT * FROM provider_entries",
        "sacco-receipts-are-the-providers",
        "RKT1",
    ),
    (
        "a reversed receipt keeps its credit",
        "UPDATE booked_receipts SET state = 'ALLOCATED' WHERE receipt = 'RKT4'",
        "sacco-reversed-and-returned",
        "RKT4",
    ),
    ("a receipt is returned without a reversal", "DELETE FROM money_reversals", "sacco-reversed-and-returned", "RKT4"),
    (
        "a returned receipt stays in the utility account",
        "DELETE FROM sacco_entries WHERE step = 'commit_return'",
        "sacco-reversed-and-returned",
        "RKT4",
    ),
    (
        "one cent of a reversal's row is changed",
        "UPDATE money_rows SET amount_minor = -6001 WHERE receipt = 'RKV4'",
        "sacco-reversed-and-returned",
        "RKV4",
    ),
    (
        "the provider has no such reversal",
        "DELETE FROM provider_entries WHERE receipt = 'RKV4'",
        "sacco-reversed-and-returned",
        "RKT4",
    ),
    (
        "the provider has a reversal that none asked for",
        "UPDATE provider_entries SET own_id = NULL",
        "sacco-reversed-and-returned",
        "RKT4",
    ),
    (
        "a callback is not decided",
        "UPDATE money_callbacks SET fate = NULL WHERE id = 'c1'",
        "sacco-callbacks-decided",
        "c1",
    ),
    ("a refused callback has no reason", "UPDATE money_callbacks SET reason = NULL", "sacco-callbacks-decided", "c2"),
    (
        "a person approves an own claim",
        "UPDATE money_claims SET decided_by = 'ANN' WHERE id = 'k1'",
        "sacco-claimed-by-two",
        "k1",
    ),
    (
        "a payout is paid twice",
        "INSERT INTO money_rows SELECT short_code, 'RKW2', account, kind, amount_minor,"
        " balance_minor, completed_s, ends_s, position, match, saga_id, reason FROM money_rows WHERE receipt = 'RKW1'"
        " AND kind = 'OUT'",
        "sacco-rows-are-payouts",
        "w1",
    ),
    (
        "one cent of a payout's row is changed",
        "UPDATE money_rows SET amount_minor = -150001 WHERE receipt = 'RKW1'",
        "sacco-rows-are-payouts",
        "RKW1",
    ),
    (
        "the provider has paid what we never asked for",
        "UPDATE provider_entries SET own_id = 'B9' WHERE own_id = 'BW1'",
        "sacco-payouts-are-the-providers",
        "RKW1",
    ),
    (
        "the provider has paid another amount",
        "UPDATE provider_entries SET amount_minor = -150001 WHERE receipt = 'RKW1'",
        "sacco-payouts-are-the-providers",
        "RKW1",
    ),
    (
        "the provider has paid one payout twice",
        "UPDATE provider_entries SET own_id = 'BW1' WHERE own_id = 'BL1'",
        "sacco-payouts-are-the-providers",
        "w1",
    ),
    (
        "the provider has not paid it",
        "DELETE FROM provider_entries WHERE receipt = 'RKW1'",
        "sacco-payouts-are-the-providers",
        "w1",
    ),
    (
        "one hold is released of what is paid",
        "UPDATE booked_payouts SET state = 'RELEASED' WHERE saga_id = 'w1'",
        "sacco-paid-not-released",
        "w1",
    ),
    (
        "a hold is released, and the statement has it as paid",
        "UPDATE money_rows SET saga_id = 'w2' WHERE receipt = 'RKL1'",
        "sacco-paid-not-released",
        "w2",
    ),
    (
        "a hold is released, and the provider has paid",
        "UPDATE provider_entries SET own_id = 'BW2' WHERE own_id = 'BW3'",
        "sacco-paid-not-released",
        "w2",
    ),
    (
        "a contradiction has no owner",
        "UPDATE sagas SET state = 'CANCELLED_COMPENSATED' WHERE saga_id = 'w4'",
        "sacco-paid-not-released",
        "w4",
    ),
    (
        "the ledger pays what is in doubt",
        "UPDATE booked_payouts SET state = 'PAID' WHERE saga_id = 'w3'",
        "sacco-payouts-booked",
        "w3",
    ),
    (
        "one cent of a payout is changed",
        "UPDATE booked_payouts SET amount_minor = 150001 WHERE saga_id = 'w1'",
        "sacco-payouts-booked",
        "w1",
    ),
    (
        "what is in transit belongs to no open payout",
        "UPDATE booked_payouts SET state = 'RELEASED' WHERE saga_id = 'w3'",
        "sacco-in-transit-is-open",
        "w3",
    ),
    (
        "one cent in transit is changed",
        "UPDATE sacco_balances SET balance_minor = -4001 WHERE owner = 'w3'",
        "sacco-in-transit-is-open",
        "w3",
    ),
    (
        "a loan stays in transit",
        "UPDATE sacco_balances SET balance_minor = 1 WHERE code = 'loans_in_transit'",
        "sacco-in-transit-is-open",
        "loans in transit KES",
    ),
    ("no one is named with an old payout", "DELETE FROM persons", "sacco-in-transit-is-open", "w3"),
    (
        "a hold is released and committed",
        "INSERT INTO sacco_entries SELECT saga_id, step, 1, code, owner, currency,"
        " -amount_minor, value_s FROM sacco_entries WHERE saga_id = 'w1' AND step = 'place_hold'",
        "sacco-holds-end-once",
        "w1",
    ),
    ("a hold is lost", "DELETE FROM sacco_entries WHERE saga_id = 'w3'", "sacco-holds-end-once", "w3"),
    (
        "a fee stays held",
        "DELETE FROM sacco_entries WHERE code = 'fees_held' AND is_undo",
        "sacco-holds-end-once",
        "w2",
    ),
    (
        "a fee is held for nothing",
        "UPDATE sacco_entries SET saga_id = 'w8' WHERE saga_id = 'w3'",
        "sacco-holds-end-once",
        "w8",
    ),
    (
        "a charge is that of an older tariff",
        "UPDATE sacco_entries SET amount_minor = -700 WHERE saga_id = 'w1' AND code = 'charges_payable'",
        "sacco-charges-by-tariff",
        "w1",
    ),
    (
        "one cent of a charge is changed",
        "UPDATE money_payouts SET charge_minor = 1301 WHERE saga_id = 'w1'",
        "sacco-charges-by-tariff",
        "w1",
    ),
    (
        "a statement's charge differs and is not listed",
        "UPDATE money_rows SET amount_minor = -1301 WHERE kind = 'CHARGE'",
        "sacco-charges-by-tariff",
        "RKW1",
    ),
    (
        "a completed withdrawal is not paid",
        "UPDATE booked_payouts SET state = 'HELD' WHERE saga_id = 'w1'",
        "sacco-ends-agree",
        "w1",
    ),
    (
        "a failed withdrawal is paid",
        "UPDATE money_payouts SET state = 'PAID' WHERE saga_id = 'w2'",
        "sacco-ends-agree",
        "w2",
    ),
    (
        "evidence says that a failed payout succeeded",
        "UPDATE money_evidence SET saga_id = 'd2' WHERE id = 'e2'",
        "sacco-ends-agree",
        "d2",
    ),
    ("a completed return is not reversed", "UPDATE money_reversals SET state = 'FAILED'", "sacco-ends-agree", "rr1"),
    ("a failed collection's prompt is paid", "UPDATE money_prompts SET state = 'PAID'", "sacco-ends-agree", "co2"),
    (
        "a completed receipt is not",
        "UPDATE money_receipts SET state = 'FAILED' WHERE receipt = 'RKT1'",
        "sacco-ends-agree",
        "r1",
    ),
    (
        "one cent of the ledger's utility account is changed",
        "UPDATE sacco_entries SET amount_minor = 1000001 WHERE saga_id = 'p1' AND code = 'utility'",
        "sacco-balances-are-the-statements",
        "600100 UTILITY",
    ),
    (
        "a charge is not booked",
        "DELETE FROM sacco_entries WHERE saga_id = 'l1' AND code = 'charges_payable'",
        "sacco-balances-are-the-statements",
        "600100 CHARGES",
    ),
    (
        "float is booked in the wrong account",
        "UPDATE sacco_entries SET code = 'working' WHERE saga_id = 'p1' AND code = 'utility'",
        "sacco-balances-are-the-statements",
        "600100 WORKING",
    ),
    ("a row is missing", "DELETE FROM money_rows WHERE receipt = 'RKL1'", "sacco-statements-have-no-gap", "RKD1"),
    (
        "a file has a gap",
        "UPDATE money_files SET gaps = 1 WHERE id = 'f-working'",
        "sacco-statements-have-no-gap",
        "f-workin",
    ),
    (
        "a day is missing",
        "INSERT INTO money_files SELECT 'f-later', short_code, account, begins_s + 172800, ends_s +"
        " 172800, shown_until_s + 172800, 0, 0 FROM money_files WHERE account = 'WORKING'",
        "sacco-statements-have-no-gap",
        "600100 WORKING",
    ),
    (
        "one balance is off by a cent",
        "UPDATE sacco_balances SET balance_minor = balance_minor + 1 WHERE code = 'bank'",
        "sacco-books-balance",
        "trial balance KES",
    ),
    (
        "a member's account is not in its control account",
        "UPDATE sacco_balances SET balance_minor = 0 WHERE code = 'fosa' AND owner = 'C'",
        "sacco-books-balance",
        "fosa KES",
    ),
    ("an account belongs to no member", "DELETE FROM member_ids WHERE member_id = 'C'", "sacco-books-balance", "C"),
    (
        "one cent of a loan is changed",
        "UPDATE booked_loans SET repaid_minor = 10001",
        "sacco-loans-are-accounts",
        "LN1",
    ),
    ("a loan is paid and has a balance", "UPDATE booked_loans SET state = 'PAID'", "sacco-loans-are-accounts", "LN1"),
    ("a loan's account has no loan", "DELETE FROM booked_loans", "sacco-loans-are-accounts", "LN1"),
    ("a line is lost", "DELETE FROM member_lines WHERE member_id = 'A'", "sacco-dividends-are-lines", "R1"),
    (
        "one cent of a line is changed",
        "UPDATE member_lines SET net_minor = 951 WHERE member_id = 'B'",
        "sacco-dividends-are-lines",
        "R1:B:DIVIDEND",
    ),
    (
        "more is posted than was declared",
        "UPDATE sacco_entries SET amount_minor = 4001 WHERE code = 'dividends_declared' AND step = 'post_dividends'",
        "sacco-dividends-are-lines",
        "R1",
    ),
    (
        "a run is declared nowhere",
        "DELETE FROM sacco_entries WHERE code = 'dividends_declared'",
        "sacco-dividends-are-lines",
        "R1",
    ),
    (
        "a line is paid and its payout is not",
        "UPDATE booked_payouts SET state = 'HELD' WHERE saga_id = 'd1'",
        "sacco-dividends-are-lines",
        "R1:B:DIVIDEND",
    ),
    (
        "a run is closed with an open line",
        "UPDATE member_lines SET state = 'RELEASED' WHERE member_id = 'C'",
        "sacco-dividends-are-lines",
        "R1:C:DIVIDEND",
    ),
    (
        "a returned line is still payable",
        "UPDATE sacco_balances SET balance_minor = -1900 WHERE code = 'dividends_payable' AND owner = 'C'",
        "sacco-dividends-are-lines",
        "C",
    ),
)
