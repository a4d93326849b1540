"""What the audit reads of a SACCO: from members, mobile-money and the ledger, and from the providers' own books.

Times are whole seconds since 1970, as providers show them. A stack without these services has none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

MONEY, LEDGER, MEMBERS, TRACKER = "mobile-money", "ledger", "members", "saga_tracker"

RECEIPTS = """
    SELECT provider, short_code, receipt, saga_id, state, amount_minor, floor(extract(epoch FROM completed_at))::bigint
    FROM receipts
"""
PROMPTS = "SELECT saga_id, state, receipt FROM prompts"
PAYOUTS = """
    SELECT saga_id, provider, short_code, receipt, state, amount_minor, charge_minor,
           (coalesce(completed_at, ended_at) AT TIME ZONE 'Africa/Nairobi')::date::text
    FROM payouts
"""
"""The last column is the day in Nairobi, by whose tariff it is charged."""
REVERSALS = "SELECT saga_id, short_code, receipt, state, amount_minor, reversal_receipt FROM reversals"
OWN_IDS = "SELECT own_id, saga_id, step FROM own_ids"
EVIDENCE = "SELECT id, saga_id, step FROM evidence WHERE outcome = 'SUCCEEDED' AND saga_id IS NOT NULL"
ENTRIES_IN_PROCESS = """
    SELECT provider, id, short_code, 'utility', receipt, kind, amount_minor, floor(extract(epoch FROM at))::bigint,
           own_id, NULL
    FROM money_entries
"""
"""The books of a benchmark's provider inside of the process, as those of providers outside."""
CALLBACKS = "SELECT id, fate, reason FROM raw_callbacks"
CLAIMS = "SELECT id, saga_id, state, proposed_by, decided_by FROM claims"
TARIFFS = """
    SELECT provider, valid_from::text, up_to_minor, charge_minor FROM provider_tariffs WHERE kind = 'PAYOUT'
"""
FILES = """
    SELECT id, short_code, account, floor(extract(epoch FROM begins_at))::bigint,
           floor(extract(epoch FROM ends_at))::bigint,
           CASE WHEN ends_at <= imported_at THEN floor(extract(epoch FROM ends_at))::bigint
                ELSE floor(extract(epoch FROM last_at))::bigint + 1 END,
           gaps, last_balance_minor
    FROM statement_files
    LEFT JOIN (SELECT file_id, max(completed_at) AS last_at FROM statement_rows GROUP BY file_id) AS listed
        ON file_id = id
"""
"""A statement that was exported before its time was over shows nothing after its last row."""
ROWS = """
    SELECT statement_rows.short_code, receipt, statement_rows.account, kind, amount_minor, balance_minor,
           floor(extract(epoch FROM completed_at))::bigint, floor(extract(epoch FROM ends_at))::bigint, position, match,
           saga_id, reason
    FROM statement_rows LEFT JOIN statement_files ON statement_files.id = file_id
"""

BOOKED_RECEIPTS = """
    SELECT saga_id, provider, short_code, receipt, currency, state, amount_minor, allocated_by, returned_by
    FROM receipt_books
"""
BOOKED_PAYOUTS = """
    SELECT saga_id, short_code, source, member_id, currency, state, amount_minor,
           floor(extract(epoch FROM now() - held_at) / 86400)::int
    FROM payout_books
"""
ENTRIES = """
    SELECT saga_id, step, (transfers.kind = 'CORRECTION')::int, code, owner, currency, sum(amount_minor)::bigint,
           floor(extract(epoch FROM transfers.effective_at))::bigint
    FROM accounts
    JOIN transfer_entries ON account_id = accounts.id
    JOIN transfers ON transfers.id = transfer_id
    WHERE chart = 'sacco' AND NOT is_hold
    GROUP BY transfers.id, code, owner, currency
"""
"""By transfer and account; a debit is positive. What is held is no entry yet."""
BALANCES = """
    SELECT code, owner, currency, (sum(debits) - sum(credits))::bigint
    FROM accounts JOIN balances ON account_id = accounts.id
    WHERE chart = 'sacco' GROUP BY accounts.id
"""
LOANS = """
    SELECT loan_id, currency, state, principal_minor, coalesce(paid_out, 0)::bigint, coalesce(repaid, 0)::bigint
    FROM loan_books
    LEFT JOIN (SELECT loan_id, sum(amount_minor) AS paid_out FROM loan_disbursements GROUP BY loan_id) AS disbursed
        USING (loan_id)
    LEFT JOIN (SELECT loan_id, sum(loan_payments.principal_minor) AS repaid FROM loan_payments GROUP BY loan_id) AS paid
        USING (loan_id)
"""

MEMBER_IDS = "SELECT member_id FROM members"
MEMBER_RECEIPTS = "SELECT provider, short_code, receipt, state FROM receipts"
RUNS = "SELECT run_id, currency, state, line_count, gross_minor, tax_minor, net_minor FROM dividend_runs"
LINES = """
    SELECT line_id, run_id, member_id, destination, state, gross_minor, tax_minor, net_minor, saga_id,
           (chunk IS NOT NULL)::int, (return_chunk IS NOT NULL)::int
    FROM dividend_lines
"""
"""The last two columns: whether it is in a chunk that is posted, or in one that is returned."""

PERSONS = "SELECT DISTINCT saga_id, actor FROM operator_log WHERE saga_id IS NOT NULL"

TABLES: Final = (
    (MONEY, "money_receipts", RECEIPTS, "receipt_doors"),
    (MONEY, "money_prompts", PROMPTS, "prompts"),
    (MONEY, "money_payouts", PAYOUTS, "payouts"),
    (MONEY, "money_reversals", REVERSALS, "reversals"),
    (MONEY, "money_own_ids", OWN_IDS, "own_ids"),
    (MONEY, "money_evidence", EVIDENCE, "evidence"),
    (MONEY, "money_callbacks", CALLBACKS, "raw_callbacks"),
    (MONEY, "money_claims", CLAIMS, "claims"),
    (MONEY, "money_tariffs", TARIFFS, "provider_tariffs"),
    (MONEY, "money_files", FILES, "statement_files"),
    (MONEY, "money_rows", ROWS, "statement_rows"),
    (LEDGER, "booked_receipts", BOOKED_RECEIPTS, "receipt_books"),
    (LEDGER, "booked_payouts", BOOKED_PAYOUTS, "payout_books"),
    (LEDGER, "sacco_entries", ENTRIES, "payout_books"),
    (LEDGER, "sacco_balances", BALANCES, "payout_books"),
    (LEDGER, "booked_loans", LOANS, "loan_books"),
    (MEMBERS, "member_ids", MEMBER_IDS, "members"),
    (MEMBERS, "member_receipts", MEMBER_RECEIPTS, "assignments"),
    (MEMBERS, "member_runs", RUNS, "dividend_runs"),
    (MEMBERS, "member_lines", LINES, "dividend_lines"),
    (TRACKER, "persons", PERSONS, "operator_log"),
)
"""By service, each with a table that its database has in a release with a SACCO."""

SCHEMA: Final = """
    CREATE TABLE money_receipts (provider, short_code, receipt, saga_id, state, amount_minor, completed_s);
    CREATE TABLE money_prompts (saga_id PRIMARY KEY, state, receipt) WITHOUT ROWID;
    CREATE TABLE money_payouts (
        saga_id PRIMARY KEY, provider, short_code, receipt, state, amount_minor, charge_minor, day
    ) WITHOUT ROWID;
    CREATE TABLE money_reversals (
        saga_id PRIMARY KEY, short_code, receipt, state, amount_minor, reversal_receipt
    ) WITHOUT ROWID;
    CREATE TABLE money_own_ids (own_id PRIMARY KEY, saga_id, step) WITHOUT ROWID;
    CREATE TABLE money_evidence (id, saga_id, step);
    CREATE TABLE money_callbacks (id, fate, reason);
    CREATE TABLE money_claims (id, saga_id, state, proposed_by, decided_by);
    CREATE TABLE money_tariffs (provider, valid_from, up_to_minor, charge_minor);
    CREATE TABLE money_files (id, short_code, account, begins_s, ends_s, shown_until_s, gaps, last_balance_minor);
    CREATE TABLE money_rows (
        short_code, receipt, account, kind, amount_minor, balance_minor, completed_s, ends_s, position, match, saga_id,
        reason
    );
    CREATE TABLE booked_receipts (
        saga_id, provider, short_code, receipt, currency, state, amount_minor, allocated_by, returned_by
    );
    CREATE TABLE booked_payouts (
        saga_id PRIMARY KEY, short_code, source, member_id, currency, state, amount_minor, held_days
    ) WITHOUT ROWID;
    CREATE TABLE sacco_entries (saga_id, step, is_undo, code, owner, currency, amount_minor, value_s);
    CREATE TABLE sacco_balances (code, owner, currency, balance_minor);
    CREATE TABLE booked_loans (
        loan_id PRIMARY KEY, currency, state, principal_minor, paid_out_minor, repaid_minor
    ) WITHOUT ROWID;
    CREATE TABLE member_ids (member_id PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE member_receipts (
        provider, short_code, receipt, state, PRIMARY KEY (short_code, receipt, provider)
    ) WITHOUT ROWID;
    CREATE TABLE member_runs (
        run_id PRIMARY KEY, currency, state, line_count, gross_minor, tax_minor, net_minor
    ) WITHOUT ROWID;
    CREATE TABLE member_lines (
        line_id PRIMARY KEY, run_id, member_id, destination, state, gross_minor, tax_minor, net_minor, saga_id,
        is_posting, is_returning
    ) WITHOUT ROWID;
    CREATE TABLE persons (saga_id, actor);
    CREATE TABLE provider_clocks (provider PRIMARY KEY, now_s) WITHOUT ROWID;
    CREATE TABLE provider_entries (
        provider, seq, short_code, account, receipt, kind, amount_minor, at_s, own_id, linked
    );
"""

VIEWS: Final = """
    -- explained_rows: rows that are listed with a reason, or booked by hand, as two persons claimed.
    -- receipt_sagas: the sagas that have moved the money of a receipt. shown_rows: when a statement shows a saga.
    -- ended_sagas: sagas of a SACCO that have ended, but for those whose contradictions two persons have settled.
    -- sacco_cuts: by account of a short code, up to when statements without a gap show it, and what both sides have.
    -- What waits there is shown, and its saga has not booked it. A payout after its release is the member's debt.
    CREATE INDEX money_receipts_by_number ON money_receipts (short_code, receipt, provider);
    CREATE INDEX booked_receipts_by_number ON booked_receipts (short_code, receipt, provider);
    CREATE INDEX booked_receipts_by_saga ON booked_receipts (saga_id);
    CREATE INDEX booked_receipts_by_return ON booked_receipts (returned_by);
    CREATE INDEX money_rows_by_saga ON money_rows (saga_id, kind);
    CREATE INDEX money_rows_by_number ON money_rows (short_code, receipt, kind);
    CREATE INDEX money_reversals_by_receipt ON money_reversals (short_code, receipt);
    CREATE INDEX money_evidence_by_saga ON money_evidence (saga_id);
    CREATE INDEX money_claims_by_saga ON money_claims (saga_id);
    CREATE INDEX money_tariffs_by_day ON money_tariffs (provider, valid_from, up_to_minor);
    CREATE INDEX own_ids_by_saga ON money_own_ids (saga_id);
    CREATE INDEX sacco_entries_by_saga ON sacco_entries (saga_id, code);
    CREATE INDEX sacco_entries_of_debtors ON sacco_entries (owner) WHERE code = 'member_receivable';
    CREATE INDEX sacco_balances_by_owner ON sacco_balances (code, owner);
    CREATE INDEX member_lines_by_run ON member_lines (run_id);
    CREATE INDEX member_lines_by_member ON member_lines (member_id);
    CREATE INDEX persons_by_saga ON persons (saga_id);
    CREATE INDEX provider_entries_by_own_id ON provider_entries (own_id, kind);
    CREATE INDEX provider_entries_by_number ON provider_entries (short_code, receipt, kind);
    CREATE TABLE explained_rows (
        short_code, receipt, kind, is_booked, PRIMARY KEY (short_code, receipt, kind)
    ) WITHOUT ROWID;
    INSERT INTO explained_rows
    SELECT short_code, receipt, kind, min(match = 'MATCHED') FROM money_rows
    WHERE match <> 'MATCHED'
       OR saga_id IN (SELECT saga_id FROM sacco_entries WHERE step IN ('hold_manual_posting', 'post_manual_posting'))
    GROUP BY short_code, receipt, kind;
    CREATE TABLE receipt_sagas (receipt_saga_id, saga_id, PRIMARY KEY (receipt_saga_id, saga_id)) WITHOUT ROWID;
    INSERT INTO receipt_sagas
    SELECT saga_id, saga_id FROM booked_receipts
    UNION SELECT saga_id, allocated_by FROM booked_receipts WHERE allocated_by IS NOT NULL
    UNION SELECT saga_id, returned_by FROM booked_receipts WHERE returned_by IS NOT NULL;
    CREATE TABLE shown_rows (
        account, saga_id, short_code, completed_s, PRIMARY KEY (account, saga_id, short_code)
    ) WITHOUT ROWID;
    INSERT INTO shown_rows
    SELECT account, saga_id, short_code, min(completed_s) FROM money_rows
    WHERE match = 'MATCHED' AND saga_id IS NOT NULL GROUP BY account, saga_id, short_code;
    CREATE TABLE ended_sagas (saga_id PRIMARY KEY, saga_type, state) WITHOUT ROWID;
    INSERT INTO ended_sagas
    SELECT saga_id, saga_type, state FROM sagas
    WHERE state IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
      AND saga_type IN ('withdrawal', 'loan_disbursement', 'dividend_payout', 'return_receipt', 'receipt', 'collection')
      AND saga_id NOT IN (SELECT saga_id FROM resolutions WHERE saga_id IS NOT NULL);
    CREATE TABLE sacco_cuts (
        code, short_code, account, cut_s, statement_minor, listed_minor, waiting_minor, booked_minor,
        PRIMARY KEY (code, short_code)
    ) WITHOUT ROWID;
    INSERT INTO sacco_cuts (code, short_code, account, cut_s)
    SELECT CASE account WHEN 'UTILITY' THEN 'utility' WHEN 'WORKING' THEN 'working' ELSE 'charges_payable' END,
           short_code, account, max(shown_until_s)
    FROM money_files WHERE gaps = 0 AND shown_until_s IS NOT NULL GROUP BY short_code, account;
    UPDATE sacco_cuts SET statement_minor = coalesce(shown.balance_minor, file.last_balance_minor)
    FROM (SELECT cut.code, cut.short_code, balance_minor, row_number() OVER (
              PARTITION BY cut.code, cut.short_code ORDER BY completed_s DESC, line.ends_s DESC, position DESC) AS place
          FROM sacco_cuts AS cut LEFT JOIN money_rows AS line
              ON line.short_code = cut.short_code AND line.account = cut.account AND completed_s < cut_s) AS shown,
         (SELECT cut.code, cut.short_code, last_balance_minor, row_number() OVER (
              PARTITION BY cut.code, cut.short_code ORDER BY file.ends_s DESC) AS place
          FROM sacco_cuts AS cut JOIN money_files AS file USING (short_code, account)) AS file
    WHERE shown.place = 1 AND file.place = 1
      AND (shown.code, shown.short_code) = (sacco_cuts.code, sacco_cuts.short_code)
      AND (file.code, file.short_code) = (sacco_cuts.code, sacco_cuts.short_code);
    UPDATE sacco_cuts SET listed_minor = listed, waiting_minor = waiting
    FROM (SELECT cut.code, cut.short_code, sum(iif(match = 'MATCHED', 0, amount_minor)) AS listed,
                 sum(iif(match = 'MATCHED' AND coalesce(sagas.state, '') NOT IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
                         AND NOT EXISTS (SELECT 1 FROM sacco_entries AS entry
                                         WHERE entry.saga_id = line.saga_id AND entry.code = cut.code)
                         AND NOT EXISTS (SELECT 1 FROM booked_payouts AS paid JOIN sacco_entries AS owed
                                             ON (owed.code, owed.owner) = ('member_receivable', paid.member_id)
                                         WHERE paid.saga_id = line.saga_id
                                           AND owed.amount_minor = -line.amount_minor),
                         amount_minor, 0)) AS waiting
          FROM money_rows AS line JOIN sacco_cuts AS cut USING (short_code, account)
               LEFT JOIN sagas ON sagas.saga_id = line.saga_id
          WHERE completed_s < cut_s GROUP BY cut.code, cut.short_code) AS counted
    WHERE (counted.code, counted.short_code) = (sacco_cuts.code, sacco_cuts.short_code);
    UPDATE sacco_cuts SET booked_minor = booked
    FROM (SELECT cut.code, cut.short_code, sum(amount_minor) AS booked
          FROM sacco_entries AS entry JOIN sacco_cuts AS cut ON (cut.code, cut.short_code) = (entry.code, entry.owner)
               LEFT JOIN shown_rows AS shown ON shown.account = cut.account AND shown.saga_id = entry.saga_id
                                                AND shown.short_code = cut.short_code
          WHERE coalesce(completed_s, value_s) < cut_s GROUP BY cut.code, cut.short_code) AS counted
    WHERE (counted.code, counted.short_code) = (sacco_cuts.code, sacco_cuts.short_code);
"""


def entry(provider: str, record: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return an entry of a provider's own books; None for one that is on no account of a short code."""
    short_code, separator, account = str(record["account"]).partition(":")
    if not separator or not short_code.isdigit():
        return None
    details = record["details"]
    return (
        provider, record["seq"], short_code, account, record["receipt"], record["kind"], record["amount_minor"],
        int(record["at"]), details.get("originator") or None, details.get("linked") or None,
    )  # fmt: skip


def entries(provider: str, records: Iterator[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield the entries of a provider's own books that are on accounts of short codes."""
    return (found for record in records if (found := entry(provider, record)) is not None)
