"""Merchants' payments for the audit: consistent rows, and damage by the invariant that finds it."""

from __future__ import annotations

PAID = """
    INSERT INTO sagas VALUES ('pay-1', 'payment', 1, 'CONFIRMED', NULL, 2, 0),
        ('pay-2', 'payment', 1, 'CANCELLED_COMPENSATED', NULL, 2, 0),
        ('pay-3', 'payment', 1, 'CONFIRMED', NULL, 2, 0),
        ('pay-4', 'payment', 1, 'PENDING', NULL, 0, 1),
        ('refund-1', 'refund', 1, 'CONFIRMED', NULL, 1, 0),
        ('refund-2', 'refund', 1, 'IN_DOUBT', NULL, 0, 1);
    INSERT INTO effects SELECT saga_id, step, service, 'DONE'
        FROM sagas JOIN steps USING (saga_type, saga_version)
        WHERE saga_id IN ('pay-1', 'pay-3', 'refund-1');
    INSERT INTO effects SELECT 'pay-2', step, service, 'UNDONE' FROM steps
        WHERE saga_type = 'payment' AND step IN ('validate_payment', 'reserve_balance');
    INSERT INTO effects VALUES ('pay-2', 'authorize_gateway', 'payment', 'REJECTED'),
        ('pay-4', 'validate_payment', 'risk', 'DONE'), ('pay-4', 'reserve_balance', 'ledger', 'DONE'),
        ('pay-4', 'authorize_gateway', 'payment', 'DONE'), ('pay-4', 'capture_or_void', 'payment', 'SENT'),
        ('refund-2', 'reserve_balance', 'ledger', 'DONE'), ('refund-2', 'refund_gateway', 'payment', 'SENT');
    INSERT INTO replies VALUES ('pay-2', 'validate_payment'), ('pay-2', 'reserve_balance');
    INSERT INTO validated VALUES ('pay-1', 'validate_payment'), ('pay-3', 'validate_payment'),
        ('pay-4', 'validate_payment');
    INSERT INTO booked_payments VALUES
        ('1', 'pay-1', 'PARTLY_REFUNDED', 100, 100, 3, 20, 40, 0, 60, 3, 57, 0, 0, 0, 20),
        ('2', 'pay-2', 'FAILED', 100, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        ('3', 'pay-3', 'AUTHORIZED', 100, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0),
        ('4', 'pay-4', 'RESERVED', 100, 0, 3, 0, 0, 0, 100, 0, 0, 100, 0, 0, 0);
    INSERT INTO booked_sagas VALUES ('pay-1', '1', 1), ('pay-2', '2', 0), ('pay-3', '3', 1), ('pay-4', '4', 0),
        ('refund-1', '1', 1), ('refund-2', '1', 0);
    INSERT INTO gateway_payments VALUES
        ('1', 'pay-1', 'stripe', 'stripe', 'pi_1', 'CAPTURED', 100, 100, 40),
        ('2', 'pay-2', 'stripe', 'stripe', 'pi_2', 'DECLINED', 0, 0, 0),
        ('3', 'pay-3', 'adyen', 'adyen', 'psp_3', 'AUTHORIZED', 100, 0, 0),
        ('4', 'pay-4', 'adyen', 'adyen', 'psp_4', 'AUTHORIZED', 100, 0, 0);
    INSERT INTO gateway_charges VALUES ('stripe', 'pi_1', '1', 0, 100, 100, 0), ('stripe', 're_1', '1', 0, 0, 0, 40),
        ('stripe', 'pi_2', '2', 0, 100, 0, 0), ('adyen', 'psp_3', '3', 1, 100, 0, 0),
        ('adyen', 'psp_4', '4', 1, 100, 0, 0), ('stripe', 'pi_9', '', 0, 0, 0, 0),
        ('adyen', 'psp_5', '5', 1, 100, 0, 0);
    INSERT INTO begun VALUES ('5', 'pay-5'), ('3', 'pay-3');
    INSERT INTO merchant_events VALUES ('pay-1', 1, 0), ('pay-2', 1, 0), ('pay-3', 1, 0), ('refund-1', 1, 0);
    INSERT INTO open_notices VALUES ('n-1', '4', 'CAPTURE_FAILED', 'WAITING'), ('n-2', NULL, 'CAPTURE', 'WAITING'),
        ('n-3', '4', 'EXPIRE', 'STRANGE');
    INSERT INTO open_evidence VALUES ('e-1', 'pay-4', 'capture_or_void');
    INSERT INTO requested VALUES ('1', 'pay-1', 'PARTLY_REFUNDED', 100, 100), ('2', 'pay-2', 'FAILED', 100, 0),
        ('3', 'pay-3', 'AUTHORIZED', 100, 0), ('4', 'pay-4', 'PENDING', 100, 0);
"""
"""A payment with a refund and one in doubt, one that was declined, one that is captured later, one under way.

And one that began while the audit was reading: its gateway has it, and no service yet.
"""

ENDED = "UPDATE sagas SET state = 'CANCELLED_COMPENSATED', is_awaiting = 0 WHERE saga_id = 'refund-2';"
"""No saga of the first payment is under way any more."""

PAYMENT_DAMAGE = [
    ("payments-within-captured", "UPDATE booked_payments SET refunding_minor = 61 WHERE payment_id = '1'"),
    ("payments-within-captured", "UPDATE booked_payments SET captured_minor = 101 WHERE payment_id = '1'"),
    ("payments-within-captured", "UPDATE booked_payments SET refunding_minor = -1 WHERE payment_id = '1'"),
    ("payments-within-captured", "UPDATE gateway_payments SET refunded_minor = 101 WHERE payment_id = '1'"),
    ("payments-within-captured", "UPDATE gateway_payments SET captured_minor = 101 WHERE payment_id = '1'"),
    ("payments-within-captured", "INSERT INTO gateway_charges VALUES ('stripe', 're_2', '1', 0, 0, 0, 61)"),
    ("payments-within-captured", "UPDATE gateway_charges SET captured_minor = 101 WHERE id = 'pi_1'"),
    ("payments-are-entries", "UPDATE booked_payments SET gateway_minor = 61 WHERE payment_id = '1'"),
    ("payments-are-entries", "UPDATE booked_payments SET fees_minor = 2 WHERE payment_id = '1'"),
    ("payments-are-entries", "UPDATE booked_payments SET merchant_minor = 60 WHERE payment_id = '1'"),
    ("payments-are-entries", "UPDATE booked_payments SET held_refunds_minor = 0 WHERE payment_id = '1'"),
    ("payments-are-entries", "UPDATE booked_payments SET merchant_minor = 97 WHERE payment_id = '3'"),
    ("payment-status-is-its-money", "UPDATE booked_payments SET status = 'CAPTURED' WHERE payment_id = '1'"),
    ("payment-status-is-its-money", "UPDATE booked_payments SET status = 'DISPUTED' WHERE payment_id = '1'"),
    ("payment-status-is-its-money", "UPDATE booked_payments SET status = 'REFUNDED' WHERE payment_id = '1'"),
    ("payment-status-is-its-money", "UPDATE booked_payments SET status = 'CAPTURED' WHERE payment_id = '2'"),
    ("payment-status-is-its-money", "UPDATE booked_payments SET held_captures_minor = 100 WHERE payment_id = '2'"),
    ("payment-status-is-its-money", "UPDATE booked_payments SET held_captures_minor = 0 WHERE payment_id = '3'"),
    ("payment-status-is-its-money", "UPDATE booked_payments SET captures_in_transit_minor = 0 WHERE payment_id = '4'"),
    ("held-for-open-payments", "UPDATE booked_payments SET held_captures_minor = 100 WHERE payment_id = '2'"),
    ("held-for-open-payments", ENDED),
    (
        "held-for-open-payments",
        "DELETE FROM open_notices; UPDATE sagas SET state = 'CONFIRMED' WHERE saga_id = 'pay-4'",
    ),
    ("payments-committed-once", "UPDATE booked_sagas SET commits = 2 WHERE saga_id = 'pay-1'"),
    ("payments-committed-once", "UPDATE booked_sagas SET commits = 0 WHERE saga_id = 'refund-1'"),
    ("payments-committed-once", "UPDATE booked_sagas SET commits = 1 WHERE saga_id = 'pay-2'"),
    ("payments-committed-once", "DELETE FROM booked_sagas WHERE saga_id = 'pay-3'"),
    ("ledger-and-payment-agree", "UPDATE gateway_payments SET captured_minor = 100 WHERE payment_id = '3'"),
    ("ledger-and-payment-agree", "UPDATE gateway_payments SET refunded_minor = 1 WHERE payment_id = '3'"),
    ("ledger-and-payment-agree", "DELETE FROM gateway_payments WHERE payment_id = '1'"),
    ("ledger-and-payment-agree", "DELETE FROM gateway_payments WHERE payment_id = '3'"),
    ("charged-as-booked", "UPDATE gateway_charges SET captured_minor = 100 WHERE id = 'pi_2'"),
    ("charged-as-booked", "UPDATE gateway_charges SET is_open = 1 WHERE id = 'pi_2'"),
    ("charged-as-booked", "UPDATE gateway_charges SET is_open = 0 WHERE id = 'psp_3'"),
    ("charged-as-booked", "DELETE FROM gateway_charges WHERE payment_id = '1'"),
    ("charged-as-booked", "INSERT INTO gateway_charges VALUES ('adyen', 'psp_7', '7', 0, 100, 100, 0)"),
    ("charged-as-booked", "DELETE FROM begun WHERE payment_id = '5'"),
    ("charged-as-booked", "UPDATE begun SET saga_id = 'pay-2' WHERE payment_id = '5'"),
    ("webhooks-have-a-fate", "UPDATE open_notices SET payment_id = '2' WHERE id = 'n-1'"),
    ("webhooks-have-a-fate", "UPDATE open_evidence SET saga_id = 'pay-1'"),
    ("webhooks-have-a-fate", "UPDATE open_evidence SET saga_id = 'invented'"),
    ("merchants-notified", "DELETE FROM merchant_events WHERE saga_id = 'refund-1'"),
    ("merchants-notified", "DELETE FROM merchant_events WHERE saga_id = 'pay-2'"),
    ("merchants-notified", "DELETE FROM merchant_events"),
    ("merchants-notified", "UPDATE merchant_events SET undelivered = 1 WHERE saga_id = 'pay-1'"),
    ("merchants-see-the-ledger", "UPDATE requested SET saga_id = 'confirmed' WHERE payment_id = '1'"),
    ("merchants-see-the-ledger", "DELETE FROM sagas WHERE saga_id = 'pay-2'"),
    ("merchants-see-the-ledger", "UPDATE requested SET captured_minor = 100 WHERE payment_id = '3'"),
    *(
        ("charged-as-booked", "".join((ENDED, damage)))
        for damage in (
            "UPDATE gateway_charges SET captured_minor = 99 WHERE id = 'pi_1'",
            "INSERT INTO gateway_charges VALUES ('stripe', 'pi_8', '1', 0, 1, 1, 0)",
            "INSERT INTO gateway_charges VALUES ('stripe', 'pi_8', '1', 1, 1, 0, 0)",
            "DELETE FROM gateway_charges WHERE id = 're_1'",
        )
    ),
]
