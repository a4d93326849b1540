"""What must be true of a SACCO's money: by the ledger, by mobile-money, and by the statements that were imported.

A statement's row that is LISTED has a reason and keeps no invariant red; what is MATCHED must be what our books have.
"""

from __future__ import annotations

from typing import Final

from baraza.audit.invariant import Invariant

MONEY, LEDGER = "mobile-money", "ledger"
SOURCES: Final = (
    (MONEY, "money_receipts", "receipts", ("provider", "short_code", "receipt", "saga_id", "state", "amount_minor")),
    (MONEY, "money_payouts", "payouts", ("saga_id", "short_code", "receipt", "state", "amount_minor")),
    (MONEY, "money_rows", "statement_rows", ("short_code", "receipt", "account", "kind", "amount_minor", "match",
                                             "saga_id", "reason")),
    (MONEY, "money_callbacks", "raw_callbacks", ("id", "fate", "reason")),
    (MONEY, "money_claims", "claims", ("id", "state", "proposed_by", "decided_by")),
    (LEDGER, "booked_receipts", "receipt_books", ("provider", "short_code", "receipt", "state", "amount_minor")),
    (LEDGER, "booked_payouts", "payout_books", ("saga_id", "short_code", "state", "amount_minor")),
)  # fmt: skip
"""What is read: the service, the scratch table, the table there, and its columns."""
TABLES: Final = tuple(
    (service, table, f"SELECT {', '.join(columns)} FROM {source}", source)  # noqa: S608 - our own names
    for service, table, source, columns in SOURCES
)
INDEXES: Final = """
    CREATE INDEX money_receipts_by_number ON money_receipts (short_code, receipt);
    CREATE INDEX booked_receipts_by_number ON booked_receipts (short_code, receipt);
    CREATE INDEX money_payouts_by_saga ON money_payouts (saga_id);
    CREATE INDEX money_rows_by_saga ON money_rows (saga_id);
"""
SCHEMA: Final = "\n".join(f"CREATE TABLE {table} ({', '.join(columns)});" for _, table, _, columns in SOURCES) + INDEXES

RECEIPTS_BOOKED = Invariant(
    name="sacco-receipts-booked",
    rule="Every receipt whose saga has completed is in the ledger once with its amount, and the ledger has no other.",
    checked="SELECT count(*) FROM money_receipts",
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

ROWS_ARE_RECEIPTS = Invariant(
    name="sacco-rows-are-receipts",
    rule="Every incoming row of a statement is a receipt with its amount, or is listed with a reason.",
    checked="SELECT count(*) FROM money_rows WHERE kind = 'IN'",
    offenders="""
        SELECT line.receipt, 'the statement has ' || line.amount_minor || ', mobile-money '
               || coalesce(money.amount_minor, 'no receipt')
        FROM money_rows AS line LEFT JOIN money_receipts AS money USING (short_code, receipt)
        WHERE line.kind = 'IN' AND line.match = 'MATCHED' AND money.amount_minor IS NOT line.amount_minor
        UNION ALL
        SELECT receipt, 'is listed without a reason' FROM money_rows
        WHERE match <> 'MATCHED' AND coalesce(reason, '') = ''
    """,
)

ROWS_ARE_PAYOUTS = Invariant(
    name="sacco-rows-are-payouts",
    rule="Every outgoing row of a statement is one payout with its amount, and no payout has two rows.",
    checked="SELECT count(*) FROM money_rows WHERE kind = 'OUT'",
    offenders="""
        SELECT line.receipt, 'the statement has ' || -line.amount_minor || ', mobile-money '
               || coalesce(money.amount_minor || ' as ' || money.state, 'no payout')
        FROM money_rows AS line LEFT JOIN money_payouts AS money USING (saga_id)
        WHERE line.kind = 'OUT' AND line.match = 'MATCHED' AND money.amount_minor IS NOT -line.amount_minor
        UNION ALL
        SELECT saga_id, 'is in the statement ' || count(*) || ' times'
        FROM money_rows WHERE kind = 'OUT' AND match = 'MATCHED' GROUP BY saga_id HAVING count(*) > 1
    """,
)

PAID_NOT_RELEASED = Invariant(
    name="sacco-paid-not-released",
    rule="No hold is released of a payout that is paid, by mobile-money or by the statement.",
    checked="SELECT count(*) FROM booked_payouts WHERE state = 'RELEASED'",
    offenders="""
        SELECT saga_id, 'its hold of ' || booked.amount_minor || ' is released, and it is paid'
        FROM booked_payouts AS booked
        WHERE state = 'RELEASED'
          AND (saga_id IN (SELECT saga_id FROM money_payouts WHERE state = 'PAID')
               OR saga_id IN (SELECT saga_id FROM money_rows WHERE kind = 'OUT' AND match = 'MATCHED'))
    """,
)

PAYOUTS_BOOKED = Invariant(
    name="sacco-payouts-booked",
    rule="What the ledger has as paid out is paid by mobile-money, with that amount.",
    checked="SELECT count(*) FROM booked_payouts",
    offenders="""
        SELECT saga_id, 'the ledger paid ' || booked.amount_minor || ', mobile-money '
               || coalesce(money.amount_minor || ' as ' || money.state, 'nothing')
        FROM booked_payouts AS booked LEFT JOIN money_payouts AS money USING (saga_id)
        WHERE booked.state = 'PAID' AND (money.state IS NOT 'PAID' OR money.amount_minor <> booked.amount_minor)
           OR money.amount_minor <> booked.amount_minor
    """,
)

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

SACCO_INVARIANTS: Final = (
    RECEIPTS_BOOKED,
    ROWS_ARE_RECEIPTS,
    ROWS_ARE_PAYOUTS,
    PAID_NOT_RELEASED,
    PAYOUTS_BOOKED,
    CALLBACKS_DECIDED,
    CLAIMED_BY_TWO,
)
