"""What must be true of money that goes out: a hold ends once, by proof, and a payout is paid at most once.

A payout is compared with the ledger, with the statements that were imported, and with the provider's own books.
"""

from __future__ import annotations

from typing import Final

from baraza.audit.invariant import Invariant

OPEN_DAYS_MAX: Final = 3
"""A payout that is in doubt for longer has a person who is named with it."""
EVERY_PAYOUT: Final = "SELECT count(*) FROM booked_payouts"

ROWS_ARE_PAYOUTS = Invariant(
    name="sacco-rows-are-payouts",
    rule="Every outgoing row of a statement is one payout with its amount, and no payout has two rows.",
    checked="SELECT count(*) FROM money_rows WHERE kind = 'OUT'",
    offenders="""
        SELECT line.receipt, 'the statement has ' || -line.amount_minor || ', mobile-money '
               || coalesce(money.amount_minor || ' as ' || money.state, 'no payout')
        FROM money_rows AS line LEFT JOIN money_payouts AS money USING (saga_id)
        WHERE line.kind = 'OUT' AND money.amount_minor IS NOT -line.amount_minor
          AND (line.short_code, line.receipt, line.kind) NOT IN (SELECT short_code, receipt, kind FROM explained_rows)
        UNION ALL
        SELECT saga_id, 'is in the statement ' || count(*) || ' times'
        FROM money_rows WHERE kind = 'OUT' AND match = 'MATCHED' AND saga_id IN (SELECT saga_id FROM money_payouts)
        GROUP BY saga_id HAVING count(*) > 1
    """,
)
"""A row that two persons have claimed as booked is a manual posting's."""

PAYOUTS_ARE_THE_PROVIDERS = Invariant(
    name="sacco-payouts-are-the-providers",
    rule="By its own books, the provider has paid every paid payout once with its amount, and nothing else for us.",
    checked="SELECT count(*) FROM provider_entries WHERE kind = 'pay_out'",
    offenders="""
        SELECT paid.receipt, 'the provider has paid ' || -paid.amount_minor || ', mobile-money has '
               || coalesce(money.amount_minor || ' as ' || money.state, 'no payout')
        FROM provider_entries AS paid LEFT JOIN money_own_ids USING (own_id)
             LEFT JOIN money_payouts AS money USING (saga_id)
        WHERE paid.kind = 'pay_out' AND paid.account = 'utility' AND money.amount_minor IS NOT -paid.amount_minor
          AND (paid.short_code, paid.receipt, 'OUT') NOT IN (SELECT short_code, receipt, kind FROM explained_rows)
        UNION ALL
        SELECT saga_id, 'the provider has paid it ' || count(*) || ' times'
        FROM provider_entries JOIN money_own_ids USING (own_id)
        WHERE kind = 'pay_out' AND account = 'utility' GROUP BY saga_id HAVING count(*) > 1
        UNION ALL
        SELECT saga_id, 'is PAID by ' || coalesce(receipt, 'no receipt') || ', and the provider has no such payment'
        FROM money_payouts AS money
        WHERE state = 'PAID' AND provider IN (SELECT provider FROM provider_clocks) AND NOT EXISTS (
            SELECT 1 FROM provider_entries AS paid
            WHERE (paid.short_code, paid.receipt, paid.kind) = (money.short_code, money.receipt, 'pay_out'))
    """,
)

PAID = """
    SELECT saga_id FROM money_payouts WHERE state = 'PAID'
    UNION SELECT saga_id FROM money_rows WHERE kind = 'OUT' AND match = 'MATCHED' AND saga_id IS NOT NULL
    UNION SELECT saga_id FROM provider_entries JOIN money_own_ids USING (own_id)
    WHERE kind = 'pay_out' AND account = 'utility' AND step = 'send_payout'
"""
"""The payouts that are paid, by anybody's records."""

PAID_NOT_RELEASED = Invariant(
    name="sacco-paid-not-released",
    rule="No hold is released of a payout that is paid, by mobile-money, a statement or the provider's own books.",
    checked="SELECT count(*) FROM booked_payouts WHERE state = 'RELEASED'",
    offenders=f"""
        SELECT saga_id, 'its hold of ' || booked.amount_minor || ' is released, and it is paid'
        FROM booked_payouts AS booked LEFT JOIN sagas USING (saga_id)
        WHERE booked.state = 'RELEASED' AND saga_id IN ({PAID})
          AND sagas.state IS NOT 'INCIDENT'
          AND saga_id NOT IN (SELECT saga_id FROM resolutions WHERE saga_id IS NOT NULL)
    """,  # noqa: S608 - our own query
    settled=f"""
        SELECT saga_id, 'was proven to have failed, and is paid; '
               || coalesce('settled by ' || approved_by, 'its contradiction waits for two persons')
        FROM booked_payouts AS booked LEFT JOIN sagas USING (saga_id) LEFT JOIN resolutions USING (saga_id)
        WHERE booked.state = 'RELEASED' AND saga_id IN ({PAID})
          AND (sagas.state IS 'INCIDENT' OR approved_by IS NOT NULL)
    """,  # noqa: S608
)
"""A provider that proves a failure and pays all the same makes an incident, which has an owner."""

PAYOUTS_BOOKED = Invariant(
    name="sacco-payouts-booked",
    rule="What the ledger has as paid out is paid by mobile-money, with that amount.",
    checked=EVERY_PAYOUT,
    offenders="""
        SELECT saga_id, 'the ledger paid ' || booked.amount_minor || ', mobile-money '
               || coalesce(money.amount_minor || ' as ' || money.state, 'nothing')
        FROM booked_payouts AS booked LEFT JOIN money_payouts AS money USING (saga_id)
        WHERE booked.state = 'PAID' AND (money.state IS NOT 'PAID' OR money.amount_minor <> booked.amount_minor)
           OR money.amount_minor <> booked.amount_minor
    """,
)

IN_TRANSIT = Invariant(
    name="sacco-in-transit-is-open",
    rule="What is in transit is that of open payouts and returns, one by one; an old one has a person who is named.",
    checked="SELECT count(*) FROM booked_payouts WHERE state = 'HELD'",
    offenders=f"""
        SELECT owner, 'has ' || sum(balance_minor) || ' in ' || code || ', open are ' || sum(open_minor)
        FROM (
            SELECT code, owner, -balance_minor AS balance_minor, 0 AS open_minor FROM sacco_balances
            WHERE code IN ('payout_in_transit', 'returns_in_transit')
            UNION ALL
            SELECT 'payout_in_transit', saga_id, 0, amount_minor FROM booked_payouts WHERE state = 'HELD'
            UNION ALL
            SELECT 'returns_in_transit', returned_by, 0, amount_minor FROM booked_receipts WHERE state = 'RETURNING'
        )
        GROUP BY code, owner HAVING sum(balance_minor) <> sum(open_minor)
        UNION ALL
        SELECT 'loans in transit ' || currency, 'are ' || sum(balance_minor) || ', payouts of loans are open with '
               || sum(open_minor)
        FROM (
            SELECT currency, balance_minor, 0 AS open_minor FROM sacco_balances WHERE code = 'loans_in_transit'
            UNION ALL
            SELECT currency, 0, amount_minor FROM booked_payouts WHERE state = 'HELD' AND source = 'LOAN'
        )
        GROUP BY currency HAVING sum(balance_minor) <> sum(open_minor)
        UNION ALL
        SELECT saga_id, 'of ' || amount_minor || ' is in transit for ' || held_days || ' days, and no one is named'
        FROM booked_payouts AS booked
        WHERE state = 'HELD' AND held_days > {OPEN_DAYS_MAX}
          AND NOT EXISTS (SELECT 1 FROM money_claims AS claim WHERE claim.saga_id = booked.saga_id)
          AND NOT EXISTS (SELECT 1 FROM persons WHERE persons.saga_id = booked.saga_id)
    """,  # noqa: S608 - a constant of our own
)

HOLDS_END_ONCE = Invariant(
    name="sacco-holds-end-once",
    rule="A payout is held once, and released or committed, not both; no fee is held for one that has ended.",
    checked=EVERY_PAYOUT,
    offenders="""
        SELECT saga_id, 'of ' || amount_minor || ' is ' || state || '; ' || coalesce(-held, 0) || ' were held, '
               || coalesce(released, 0) || ' released and ' || coalesce(committed, 0) || ' committed, and '
               || coalesce(-fees, 0) || ' of fees are held'
        FROM booked_payouts AS booked LEFT JOIN (
            SELECT saga_id,
                   sum(iif(code = 'payout_in_transit' AND step = 'place_hold' AND NOT is_undo, amount_minor, 0))
                   AS held,
                   sum(iif(code = 'payout_in_transit' AND is_undo, amount_minor, 0)) AS released,
                   sum(iif(code = 'payout_in_transit' AND step = 'commit_payout', amount_minor, 0)) AS committed,
                   sum(iif(code = 'fees_held', amount_minor, 0)) AS fees
            FROM sacco_entries WHERE code IN ('payout_in_transit', 'fees_held') GROUP BY saga_id
        ) AS entered USING (saga_id)
        WHERE coalesce(-held, 0) <> amount_minor OR coalesce(released, 0) <> iif(state = 'RELEASED', amount_minor, 0)
           OR coalesce(committed, 0) <> iif(state = 'PAID', amount_minor, 0)
           OR coalesce(fees, 0) <> 0 AND state <> 'HELD' OR coalesce(fees, 0) > 0
        UNION ALL
        SELECT saga_id, 'holds fees of ' || -sum(amount_minor) || ', and no payout is booked for it'
        FROM sacco_entries WHERE code = 'fees_held' AND saga_id NOT IN (SELECT saga_id FROM booked_payouts)
        GROUP BY saga_id HAVING sum(amount_minor) <> 0
    """,
)

DUE = """
    coalesce((
        SELECT line.charge_minor FROM money_tariffs AS line
        WHERE line.provider = money.provider AND line.up_to_minor >= money.amount_minor AND line.valid_from = (
            SELECT max(valid_from) FROM money_tariffs AS newer
            WHERE newer.provider = money.provider AND newer.valid_from <= money.day)
        ORDER BY line.up_to_minor LIMIT 1), 0)
"""

CHARGES_BY_TARIFF = Invariant(
    name="sacco-charges-by-tariff",
    rule="What a payout cost is booked by the tariff of its day; where a statement has another charge, it is listed.",
    checked="SELECT count(*) FROM money_payouts WHERE state = 'PAID'",
    offenders=f"""
        SELECT saga_id, 'of ' || paid.amount_minor || ' on ' || day || ' is charged ' || coalesce(charged, 0)
               || ' by the ledger and ' || charge_minor || ' by mobile-money, by the tariff ' || due
        FROM (SELECT saga_id, amount_minor, day, charge_minor, {DUE} AS due FROM money_payouts AS money
              WHERE state = 'PAID') AS paid
             JOIN booked_payouts AS booked USING (saga_id)
             LEFT JOIN (SELECT saga_id, -sum(amount_minor) AS charged FROM sacco_entries
                        WHERE code = 'charges_payable' AND step = 'commit_payout' GROUP BY saga_id) USING (saga_id)
        WHERE charge_minor <> due OR booked.state = 'PAID' AND coalesce(charged, 0) <> due
        UNION ALL
        SELECT line.receipt, 'the statement charges ' || -line.amount_minor || ', which is matched, by the tariff '
               || {DUE}
        FROM money_rows AS line JOIN money_payouts AS money USING (saga_id)
        WHERE line.kind = 'CHARGE' AND line.match = 'MATCHED' AND -line.amount_minor <> {DUE}
    """,  # noqa: S608 - our own query
)

ENDS_AGREE = Invariant(
    name="sacco-ends-agree",
    rule="No saga that has ended has evidence, a statement or a provider's entry that contradicts its end.",
    checked="SELECT count(*) FROM ended_sagas",
    offenders=f"""
        SELECT saga_id, 'is a completed ' || saga_type || ', its payout is ' || coalesce(money.state, 'unknown')
               || ' and ' || coalesce(booked.state, 'unknown') || ' in the ledger'
        FROM ended_sagas LEFT JOIN money_payouts AS money USING (saga_id)
             LEFT JOIN booked_payouts AS booked USING (saga_id)
        WHERE saga_type IN ('withdrawal', 'loan_disbursement', 'dividend_payout') AND ended_sagas.state = 'CONFIRMED'
          AND (money.state IS NOT 'PAID' OR booked.state IS NOT 'PAID')
        UNION ALL
        SELECT saga_id, 'is a ' || saga_type || ' that has failed, its payout is paid or held ('
               || coalesce(booked.state, 'unknown to the ledger') || ')'
        FROM ended_sagas LEFT JOIN booked_payouts AS booked USING (saga_id)
        WHERE saga_type IN ('withdrawal', 'loan_disbursement', 'dividend_payout')
          AND ended_sagas.state = 'CANCELLED_COMPENSATED'
          AND (coalesce(booked.state, '') IN ('PAID', 'HELD') OR saga_id IN ({PAID}))
        UNION ALL
        SELECT saga_id, 'is a ' || saga_type || ' that has failed, and evidence ' || money_evidence.id
               || ' says that ' || step || ' succeeded'
        FROM ended_sagas JOIN money_evidence USING (saga_id)
        WHERE ended_sagas.state = 'CANCELLED_COMPENSATED' AND step IN ('send_payout', 'send_reversal')
        UNION ALL
        SELECT saga_id, 'is a return that is ' || ended_sagas.state || ', its reversal is '
               || coalesce(money_reversals.state, 'unknown')
        FROM ended_sagas LEFT JOIN money_reversals USING (saga_id)
        WHERE saga_type = 'return_receipt'
          AND (ended_sagas.state = 'CONFIRMED') <> (coalesce(money_reversals.state, '') = 'PAID')
        UNION ALL
        SELECT saga_id, 'is a collection that is ' || ended_sagas.state || ', its prompt is ' || money_prompts.state
        FROM ended_sagas JOIN money_prompts USING (saga_id)
        WHERE saga_type = 'collection' AND (ended_sagas.state = 'CONFIRMED') <> (money_prompts.state = 'PAID')
        UNION ALL
        SELECT saga_id, 'is the saga of receipt ' || receipt || ', has ended as ' || ended_sagas.state
               || ', and the receipt is ' || money_receipts.state
        FROM ended_sagas JOIN money_receipts USING (saga_id)
        WHERE saga_type = 'receipt'
          AND money_receipts.state <> iif(ended_sagas.state = 'CONFIRMED', 'COMPLETED', 'FAILED')
    """,  # noqa: S608 - our own query
)
"""A prompt that was not paid may be paid later: its receipt counts all the same, and contradicts nothing."""

PAYOUT_INVARIANTS: Final = (
    ROWS_ARE_PAYOUTS,
    PAYOUTS_ARE_THE_PROVIDERS,
    PAID_NOT_RELEASED,
    PAYOUTS_BOOKED,
    IN_TRANSIT,
    HOLDS_END_ONCE,
    CHARGES_BY_TARIFF,
    ENDS_AGREE,
)
