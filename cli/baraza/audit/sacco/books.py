"""What must be true of a SACCO's books as a whole: balances, statements without a gap, loans and dividend runs.

What the ledger has is compared with the statements at the last time that these show; what they list is in between.
"""

from __future__ import annotations

from typing import Final

from baraza.audit.invariant import Invariant

BALANCES_ARE_THE_STATEMENTS = Invariant(
    name="sacco-balances-are-the-statements",
    rule="What the ledger has at a short code is the statement's balance, but for listed rows in time difference.",
    checked="SELECT count(*) FROM sacco_cuts",
    offenders="""
        SELECT short_code || ' ' || account, 'the statement has ' || coalesce(statement_minor, 'nothing')
               || ', the ledger ' || coalesce(booked_minor, 0) || '; listed are ' || coalesce(listed_minor, 0)
               || ', and ' || coalesce(waiting_minor, 0) || ' of sagas that have not ended'
        FROM sacco_cuts
        WHERE coalesce(statement_minor, 0) - coalesce(listed_minor, 0) - coalesce(waiting_minor, 0)
              <> coalesce(booked_minor, 0)
    """,
)

STATEMENTS_HAVE_NO_GAP = Invariant(
    name="sacco-statements-have-no-gap",
    rule="Each row's balance is that of the row before and its amount, and no day lacks its statement.",
    checked="SELECT count(*) FROM money_rows",
    offenders="""
        SELECT receipt, 'leaves ' || balance_minor || ' in ' || account || ' of ' || short_code || ', before it were '
               || before_minor || ' and it is ' || amount_minor
        FROM (SELECT receipt, account, short_code, balance_minor, amount_minor, lag(balance_minor) OVER (
                  PARTITION BY short_code, account ORDER BY completed_s, ends_s, position) AS before_minor
              FROM money_rows)
        WHERE before_minor + amount_minor <> balance_minor
        UNION ALL
        SELECT substr(id, 1, 8), 'has ' || gaps || ' gaps in ' || account || ' of ' || short_code
               || ', and no file without any covers its time'
        FROM money_files AS file
        WHERE gaps > 0 AND NOT EXISTS (
            SELECT 1 FROM money_files AS whole
            WHERE (whole.short_code, whole.account) = (file.short_code, file.account) AND whole.gaps = 0
              AND whole.begins_s <= file.begins_s AND whole.ends_s >= file.ends_s)
        UNION ALL
        SELECT short_code || ' ' || account, 'no statement covers the days between '
               || date(before_s - 1, 'unixepoch', '+3 hours') || ' and ' || date(begins_s, 'unixepoch', '+3 hours')
        FROM (SELECT short_code, account, begins_s, max(ends_s) OVER (
                  PARTITION BY short_code, account ORDER BY begins_s, ends_s
                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before_s
              FROM money_files)
        WHERE (begins_s + 10800) / 86400 > (before_s - 1 + 10800) / 86400 + 1
    """,
)
"""Days are those of Nairobi."""

BOOKS_BALANCE = Invariant(
    name="sacco-books-balance",
    rule="The trial balance is zero; members' accounts sum to their control accounts, and each has its member.",
    checked="SELECT count(*) FROM sacco_balances",
    offenders="""
        SELECT 'trial balance ' || currency, 'is ' || sum(balance_minor)
        FROM sacco_balances GROUP BY currency HAVING sum(balance_minor) <> 0
        UNION ALL
        SELECT code || ' ' || currency, 'its accounts sum to ' || sum(balance_minor) || ', its entries to '
               || sum(entered_minor)
        FROM (
            SELECT code, currency, balance_minor, 0 AS entered_minor FROM sacco_balances
            UNION ALL SELECT code, currency, 0, amount_minor FROM sacco_entries
        )
        GROUP BY code, currency HAVING sum(balance_minor) <> sum(entered_minor)
        UNION ALL
        SELECT owner, 'has ' || code || ', and members have no such member'
        FROM sacco_balances
        WHERE code IN ('fosa', 'deposits', 'shares', 'dividends_payable', 'member_receivable')
          AND owner NOT IN (SELECT member_id FROM member_ids)
    """,
)

LOANS_ARE_ACCOUNTS = Invariant(
    name="sacco-loans-are-accounts",
    rule="A loan's account has what was paid out of it, less what is repaid, and a paid loan has nothing.",
    checked="SELECT count(*) FROM booked_loans",
    offenders="""
        SELECT loan_id, 'is ' || state || ' with ' || paid_out_minor || ' of ' || principal_minor || ' paid out and '
               || repaid_minor || ' repaid, its account has ' || coalesce(balance_minor, 0)
        FROM booked_loans AS loan LEFT JOIN sacco_balances AS account
             ON (account.code, account.owner) = ('loan', loan.loan_id)
        WHERE coalesce(balance_minor, 0) <> paid_out_minor - repaid_minor OR paid_out_minor > principal_minor
           OR state = 'PAID' AND coalesce(balance_minor, 0) <> 0
        UNION ALL
        SELECT owner, 'has ' || balance_minor || ' on the account of a loan, and there is no such loan'
        FROM sacco_balances
        WHERE code = 'loan' AND balance_minor <> 0 AND owner NOT IN (SELECT loan_id FROM booked_loans)
    """,
)

DIVIDENDS_ARE_LINES = Invariant(
    name="sacco-dividends-are-lines",
    rule="The lines of a dividend run sum to the approved total, and each is paid, credited, in transit or returned.",
    checked="SELECT count(*) FROM member_lines",
    offenders="""
        SELECT run_id, 'was computed with ' || run.line_count || ' lines, ' || run.gross_minor || ' gross, '
               || run.tax_minor || ' tax and ' || run.net_minor || ' net, its lines have ' || coalesce(lines, 0) || ', '
               || coalesce(gross, 0) || ', ' || coalesce(tax, 0) || ' and ' || coalesce(net, 0)
        FROM member_runs AS run LEFT JOIN (
            SELECT run_id, count(*) AS lines, sum(gross_minor) AS gross, sum(tax_minor) AS tax, sum(net_minor) AS net
            FROM member_lines GROUP BY run_id) AS counted USING (run_id)
        WHERE (run.line_count, run.gross_minor, run.tax_minor, run.net_minor)
              IS NOT (coalesce(lines, 0), coalesce(gross, 0), coalesce(tax, 0), coalesce(net, 0))
        UNION ALL
        SELECT run_id, 'is ' || run.state || ' with ' || gross_minor || ' gross; the ledger has ' || declared
               || ' declared and ' || posted || ' posted, its posted lines have ' || coalesce(least, 0)
        FROM member_runs AS run
             JOIN (SELECT owner AS run_id, sum(iif(amount_minor < 0, -amount_minor, 0)) AS declared,
                          sum(iif(amount_minor > 0, amount_minor, 0)) AS posted
                   FROM sacco_entries WHERE code = 'dividends_declared' GROUP BY owner) AS booked USING (run_id)
             LEFT JOIN (SELECT run_id, sum(iif(state <> 'PENDING', gross_minor, 0)) AS least,
                               sum(iif(state <> 'PENDING' OR is_posting, gross_minor, 0)) AS most
                        FROM member_lines GROUP BY run_id) AS counted USING (run_id)
        WHERE declared <> gross_minor OR posted NOT BETWEEN coalesce(least, 0) AND coalesce(most, 0)
        UNION ALL
        SELECT run_id, 'is ' || state || ', and nothing is declared for it in the ledger'
        FROM member_runs
        WHERE state IN ('DECLARED', 'POSTING', 'PAYING', 'CLOSED')
          AND run_id NOT IN (SELECT owner FROM sacco_entries WHERE code = 'dividends_declared')
        UNION ALL
        SELECT line_id, 'is ' || line.state || ' with ' || line.net_minor || ' net, its payout is '
               || coalesce(booked.state || ' with ' || booked.amount_minor, 'not booked')
        FROM member_lines AS line LEFT JOIN booked_payouts AS booked USING (saga_id)
        WHERE line.state = 'PAID' AND (booked.state IS NOT 'PAID' OR booked.amount_minor <> line.net_minor)
           OR line.state IN ('RETURNING', 'RETURNED') AND coalesce(booked.state, 'RELEASED') <> 'RELEASED'
           OR line.state IN ('POSTED', 'PENDING') AND booked.state IS NOT NULL
        UNION ALL
        SELECT line_id, 'of run ' || run_id || ', which is CLOSED, is ' || line.state
        FROM member_lines AS line JOIN member_runs AS run USING (run_id)
        WHERE run.state = 'CLOSED' AND NOT (
            line.state IN ('PAID', 'RETURNED') OR line.state = 'POSTED' AND line.destination <> 'MOBILE')
        UNION ALL
        SELECT member_id, 'has ' || sum(balance_minor) || ' of dividends payable, lines that wait have ' || sum(least)
        FROM (
            SELECT owner AS member_id, -balance_minor AS balance_minor, 0 AS least, 0 AS most FROM sacco_balances
            WHERE code = 'dividends_payable'
            UNION ALL
            SELECT line.member_id, 0,
                   iif(line.state IN ('POSTED', 'RETURNING', 'RELEASED') AND NOT is_returning
                       AND coalesce(booked.state, 'RELEASED') = 'RELEASED', net_minor, 0),
                   iif((line.state IN ('POSTED', 'RETURNING', 'RELEASED') OR line.state = 'PENDING' AND is_posting)
                       AND coalesce(booked.state, 'RELEASED') = 'RELEASED', net_minor, 0)
            FROM member_lines AS line LEFT JOIN booked_payouts AS booked USING (saga_id)
            WHERE destination = 'MOBILE'
        )
        GROUP BY member_id HAVING sum(balance_minor) NOT BETWEEN sum(least) AND sum(most)
    """,
)
"""A chunk that is under way may be in the ledger already, or not yet."""

BOOK_INVARIANTS: Final = (
    BALANCES_ARE_THE_STATEMENTS,
    STATEMENTS_HAVE_NO_GAP,
    BOOKS_BALANCE,
    LOANS_ARE_ACCOUNTS,
    DIVIDENDS_ARE_LINES,
)
