"""What must be true of money that comes in, and of what goes back to its payer: one receipt is one credit.

A receipt is compared with the ledger, with the statements that were imported, and with the provider's own books.
"""

from __future__ import annotations

from typing import Final

from baraza.audit.invariant import Invariant

ARRIVES_WITHIN_S: Final = 120
"""A payment whose callback is lost is found by the next pull, a minute later."""
TIME_DIFFERS_S_MAX: Final = 900
"""A receipt has the provider's time, and of a provider that shows none that of our query."""
EVERY_RECEIPT: Final = "SELECT count(*) FROM money_receipts"

RECEIPTS_BOOKED = Invariant(
    name="sacco-receipts-booked",
    rule="Every receipt whose saga has completed is in the ledger once with its amount, and the ledger has no other.",
    checked=EVERY_RECEIPT,
    offenders="""
        SELECT money.receipt, 'the ledger has ' || coalesce(booked.amount_minor, 'nothing') || ' of '
               || money.amount_minor
        FROM money_receipts AS money LEFT JOIN booked_receipts AS booked USING (provider, short_code, receipt)
        WHERE money.state = 'COMPLETED' AND booked.amount_minor IS NOT money.amount_minor
        UNION ALL
        SELECT booked.receipt, 'is in the ledger, and mobile-money has '
               || coalesce('it as ' || money.state || ' of ' || money.amount_minor, 'no such receipt')
        FROM booked_receipts AS booked LEFT JOIN money_receipts AS money USING (provider, short_code, receipt)
        WHERE money.state IS NULL OR money.state = 'UNCONFIRMED' OR money.amount_minor <> booked.amount_minor
        UNION ALL
        SELECT receipt, 'is in the ledger ' || count(*) || ' times'
        FROM booked_receipts GROUP BY provider, short_code, receipt HAVING count(*) > 1
    """,
)

RECEIPTS_ARE_ENTRIES = Invariant(
    name="sacco-receipts-are-entries",
    rule="A receipt is entered once with its amount; what is left of it unallocated is all of it, or nothing.",
    checked="SELECT count(*) FROM booked_receipts",
    offenders="""
        SELECT receipt, 'of ' || amount_minor || ' is ' || state || '; its entries have ' || coalesce(received, 0)
               || ' received and ' || coalesce(-unallocated, 0) || ' unallocated'
        FROM booked_receipts AS booked LEFT JOIN (
            SELECT receipt_saga_id, sum(iif(code = 'utility' AND step = 'record_receipt', amount_minor, 0)) AS received,
                   sum(iif(code = 'unallocated', amount_minor, 0)) AS unallocated
            FROM receipt_sagas JOIN sacco_entries USING (saga_id) GROUP BY receipt_saga_id
        ) AS entered ON receipt_saga_id = booked.saga_id
        WHERE coalesce(received, 0) <> amount_minor
           OR coalesce(-unallocated, 0) <> iif(state = 'UNALLOCATED', amount_minor, 0)
        UNION ALL
        SELECT saga_id, 'has received ' || amount_minor || ', and no receipt is recorded for it'
        FROM sacco_entries
        WHERE step = 'record_receipt' AND code = 'utility' AND saga_id NOT IN (SELECT saga_id FROM booked_receipts)
    """,
)

UNALLOCATED = Invariant(
    name="sacco-unallocated-is-listed",
    rule="What is unallocated is the sum of the receipts that wait, and each of them is on the work list of members.",
    checked="SELECT count(*) FROM booked_receipts WHERE state = 'UNALLOCATED'",
    offenders="""
        SELECT 'unallocated ' || currency, 'is ' || sum(balance_minor) || ', its receipts sum to ' || sum(waiting_minor)
        FROM (
            SELECT currency, -balance_minor AS balance_minor, 0 AS waiting_minor FROM sacco_balances
            WHERE code = 'unallocated'
            UNION ALL
            SELECT currency, 0, amount_minor FROM booked_receipts WHERE state = 'UNALLOCATED'
        )
        GROUP BY currency HAVING sum(balance_minor) <> sum(waiting_minor)
        UNION ALL
        SELECT receipt, 'is unallocated, and members have ' || coalesce('it as ' || listed.state, 'no such receipt')
        FROM booked_receipts AS booked LEFT JOIN member_receipts AS listed USING (short_code, receipt, provider)
             LEFT JOIN sagas USING (saga_id)
        WHERE booked.state = 'UNALLOCATED' AND coalesce(listed.state, '') NOT IN ('SUSPENSE', 'ASSIGNED')
          AND coalesce(sagas.state, 'CONFIRMED') IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
        UNION ALL
        SELECT receipt, 'waits on the work list of members, and in the ledger it is '
               || coalesce(booked.state, 'not recorded')
        FROM member_receipts AS listed LEFT JOIN booked_receipts AS booked USING (short_code, receipt, provider)
        WHERE listed.state = 'SUSPENSE' AND booked.state IS NOT 'UNALLOCATED'
    """,
)
"""A receipt whose saga is parked or under way is listed there."""

ROWS_ARE_RECEIPTS = Invariant(
    name="sacco-rows-are-receipts",
    rule="Every incoming row of a statement is a receipt with its amount and time, or is listed with a reason.",
    checked="SELECT count(*) FROM money_rows WHERE kind = 'IN'",
    offenders=f"""
        SELECT line.receipt, 'the statement has ' || line.amount_minor || ', mobile-money '
               || coalesce(money.amount_minor, 'no receipt')
        FROM money_rows AS line LEFT JOIN money_receipts AS money USING (short_code, receipt)
        WHERE line.kind = 'IN' AND money.amount_minor IS NOT line.amount_minor
          AND (line.short_code, line.receipt, line.kind) NOT IN (SELECT short_code, receipt, kind FROM explained_rows)
        UNION ALL
        SELECT line.receipt, 'was completed ' || abs(line.completed_s - money.completed_s)
               || ' s apart by the statement and by mobile-money'
        FROM money_rows AS line JOIN money_receipts AS money USING (short_code, receipt)
        WHERE line.kind = 'IN' AND abs(line.completed_s - money.completed_s) > {TIME_DIFFERS_S_MAX}
        UNION ALL
        SELECT receipt, 'is listed without a reason' FROM money_rows
        WHERE match <> 'MATCHED' AND coalesce(reason, '') = ''
    """,  # noqa: S608 - a constant of our own
)

RECEIPTS_ARE_ROWS = Invariant(
    name="sacco-receipts-are-rows",
    rule="Every receipt of a time that a statement without a gap covers is a row of it.",
    checked=EVERY_RECEIPT,
    offenders=f"""
        SELECT receipt, 'of ' || amount_minor || ' is in no statement, and file ' || substr(id, 1, 8)
               || ' covers its time'
        FROM money_receipts AS money JOIN money_files AS file USING (short_code)
        WHERE file.account = 'UTILITY' AND gaps = 0 AND state <> 'UNCONFIRMED'
          AND completed_s >= begins_s + {TIME_DIFFERS_S_MAX} AND completed_s < shown_until_s - {TIME_DIFFERS_S_MAX}
          AND NOT EXISTS (SELECT 1 FROM money_rows AS line
                          WHERE (line.short_code, line.receipt, line.kind) = (money.short_code, money.receipt, 'IN'))
        GROUP BY short_code, receipt
    """,  # noqa: S608
)

RECEIPTS_ARE_THE_PROVIDERS = Invariant(
    name="sacco-receipts-are-the-providers",
    rule="By its own books, the provider has taken every receipt with its amount, and nothing that is none of ours.",
    checked="SELECT count(*) FROM provider_entries WHERE kind = 'pay_in'",
    offenders=f"""
        SELECT paid.receipt, 'the provider has ' || paid.amount_minor || ', mobile-money '
               || coalesce(money.amount_minor, 'no receipt')
        FROM provider_entries AS paid JOIN provider_clocks USING (provider)
             LEFT JOIN money_receipts AS money USING (short_code, receipt, provider)
        WHERE paid.kind = 'pay_in' AND paid.account = 'utility' AND at_s < now_s - {ARRIVES_WITHIN_S}
          AND money.amount_minor IS NOT paid.amount_minor
          AND (short_code, receipt, 'IN') NOT IN (SELECT short_code, receipt, kind FROM explained_rows WHERE is_booked)
        UNION ALL
        SELECT receipt, 'of ' || amount_minor || ' is ' || state || ', and the provider has nothing of it'
        FROM money_receipts AS money
        WHERE provider IN (SELECT provider FROM provider_clocks) AND state <> 'UNCONFIRMED' AND NOT EXISTS (
            SELECT 1 FROM provider_entries AS paid
            WHERE (paid.short_code, paid.receipt, paid.kind) = (money.short_code, money.receipt, 'pay_in'))
        UNION ALL
        SELECT receipt, 'the provider has it ' || count(*) || ' times' FROM provider_entries
        WHERE kind = 'pay_in' AND account = 'utility' GROUP BY provider, short_code, receipt HAVING count(*) > 1
    """,  # noqa: S608
)

REVERSED = Invariant(
    name="sacco-reversed-and-returned",
    rule="A payment that went back has its reversal at the provider and in statements, and no credit is left standing.",
    checked="SELECT (SELECT count(*) FROM money_reversals) + (SELECT count(*) FROM money_rows WHERE kind = 'REVERSAL')",
    offenders="""
        SELECT reversal.receipt, 'was reversed, and in the ledger it is ' || coalesce(booked.state, 'not recorded')
        FROM money_reversals AS reversal LEFT JOIN booked_receipts AS booked USING (short_code, receipt)
        WHERE reversal.state = 'PAID' AND booked.state IS NOT 'RETURNED'
        UNION ALL
        SELECT booked.receipt, 'is RETURNED in the ledger, and its reversal is ' || coalesce(reversal.state, 'unknown')
        FROM booked_receipts AS booked LEFT JOIN money_reversals AS reversal
             ON (reversal.saga_id, reversal.receipt) = (booked.returned_by, booked.receipt)
        WHERE booked.state = 'RETURNED' AND reversal.state IS NOT 'PAID'
        UNION ALL
        SELECT receipt, 'went back, and ' || sum(entry.amount_minor) || ' of it is still in the utility account'
        FROM booked_receipts AS booked JOIN receipt_sagas ON receipt_saga_id = booked.saga_id
             JOIN sacco_entries AS entry ON (entry.saga_id, entry.code) = (receipt_sagas.saga_id, 'utility')
        WHERE state = 'RETURNED' GROUP BY booked.saga_id HAVING sum(entry.amount_minor) <> 0
        UNION ALL
        SELECT line.receipt, 'a reversal of ' || -line.amount_minor || ' in the statement is '
               || coalesce(reversal.state || ' with ' || reversal.amount_minor, 'none of ours')
        FROM money_rows AS line LEFT JOIN money_reversals AS reversal USING (saga_id)
        WHERE line.kind = 'REVERSAL' AND line.match = 'MATCHED'
          AND (reversal.state IS NOT 'PAID' OR reversal.amount_minor <> -line.amount_minor)
          AND (line.short_code, line.receipt, line.kind) NOT IN (SELECT short_code, receipt, kind FROM explained_rows)
        UNION ALL
        SELECT reversal.receipt, 'was reversed by ' || reversal_receipt || ', and its provider has no such reversal'
        FROM money_reversals AS reversal JOIN booked_receipts AS booked USING (short_code, receipt)
        WHERE reversal.state = 'PAID' AND provider IN (SELECT provider FROM provider_clocks) AND NOT EXISTS (
            SELECT 1 FROM provider_entries AS entry
            WHERE (entry.short_code, entry.receipt, entry.kind) = (short_code, reversal_receipt, 'reversal')
              AND entry.amount_minor = -reversal.amount_minor)
        UNION ALL
        SELECT linked, 'went back by the provider''s books, and its reversal is ' || coalesce(reversal.state, 'unknown')
        FROM provider_entries AS entry LEFT JOIN money_own_ids USING (own_id)
             LEFT JOIN money_reversals AS reversal USING (saga_id)
        WHERE entry.kind = 'reversal' AND account = 'utility'
          AND (reversal.state IS NULL OR reversal.state = 'FAILED' OR reversal.amount_minor <> -entry.amount_minor)
          AND (entry.short_code, entry.receipt, 'REVERSAL') NOT IN (
              SELECT short_code, receipt, kind FROM explained_rows)
    """,
)
"""What people take back at the provider's portal is listed, until two persons have claimed it as booked."""

CALLBACKS_DECIDED = Invariant(
    name="sacco-callbacks-decided",
    rule="Every callback is stored with what became of it; a refused one has a reason.",
    checked="SELECT count(*) FROM money_callbacks",
    offenders="""
        SELECT id, iif(fate IS NULL, 'is not decided', 'is REFUSED without a reason') FROM money_callbacks
        WHERE fate IS NULL OR fate = 'REFUSED' AND coalesce(reason, '') = ''
    """,
)

CLAIMED_BY_TWO = Invariant(
    name="sacco-claimed-by-two",
    rule="A claim was approved by another person than the one who proposed it.",
    checked="SELECT count(*) FROM money_claims",
    offenders="""
        SELECT id, 'was approved by ' || coalesce(decided_by, 'no one') FROM money_claims
        WHERE state = 'APPROVED' AND (decided_by IS NULL OR lower(decided_by) = lower(proposed_by))
    """,
)

RECEIPT_INVARIANTS: Final = (
    RECEIPTS_BOOKED,
    RECEIPTS_ARE_ENTRIES,
    UNALLOCATED,
    ROWS_ARE_RECEIPTS,
    RECEIPTS_ARE_ROWS,
    RECEIPTS_ARE_THE_PROVIDERS,
    REVERSED,
    CALLBACKS_DECIDED,
    CLAIMED_BY_TWO,
)
