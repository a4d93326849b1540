"""The ledger, computed again from its entries, in SQL and from outside: no total that it stores is believed.

PostgreSQL does the sums and returns only what differs, so that ten million entries can be audited.
"""

from __future__ import annotations

from baraza.audit.invariant import Invariant
from ledger.model.charts import CHARTS

COUNTS = """
    SELECT rule, count FROM (
        SELECT count(*) AS transfers, count(*) FILTER (WHERE kind IN ('POST', 'VOID')) AS resolving FROM transfers
    ) AS counted
    CROSS JOIN (SELECT count(*) AS entries FROM transfer_entries) AS listed
    CROSS JOIN (SELECT count(*) AS opened FROM accounts) AS charted
    CROSS JOIN (SELECT count(*) AS moved FROM payments) AS paid
    CROSS JOIN (
        SELECT count(*) AS proposed FROM manual_postings WHERE state NOT IN ('PROPOSED', 'REFUSED')
    ) AS manual
    CROSS JOIN (
        SELECT count(*) AS balances,
               count(*) FILTER (WHERE floor_minor IS NOT NULL OR ceiling_minor IS NOT NULL) AS limited
        FROM balances
    ) AS kept
    CROSS JOIN LATERAL (
        VALUES ('transfers-balanced', transfers), ('balances-are-entries', balances), ('running-totals', entries),
               ('within-limits', limited), ('holds-resolved-once', resolving), ('booked-by-steps', transfers),
               ('accounts-are-the-charts', opened), ('payments-as-moved', moved),
               ('booked-as-proposed', proposed)
    ) AS by_rule (rule, count)
"""
"""How many rows each rule applies to."""

UNBALANCED = """
    SELECT 'transfers-balanced', coalesce(reference, transfer_id::text), problem
    FROM (
        SELECT transfer_id,
               'its entries in ' || coalesce(chart || ' ' || currency, 'no account') || ' sum to ' || sum(amount_minor)
               AS problem
        FROM transfer_entries LEFT JOIN accounts ON accounts.id = account_id
        GROUP BY transfer_id, chart, currency HAVING sum(amount_minor) <> 0
        UNION ALL
        SELECT coalesce(transfers.id, transfer_id),
               coalesce(entry_count, 0) || ' entries were booked, ' || coalesce(found, 0) || ' are there'
        FROM transfers
        FULL JOIN (SELECT transfer_id, count(*) AS found FROM transfer_entries GROUP BY transfer_id) AS listed
            ON transfer_id = transfers.id
        WHERE coalesce(entry_count, 0) <> coalesce(found, 0)
    ) AS unbalanced
    LEFT JOIN transfers ON transfers.id = transfer_id
"""

BALANCES = """
    SELECT 'balances-are-entries', coalesce(path, account_id::text) || ' row ' || lane,
           'has ' || coalesce(debits, 0) || ' debited and ' || coalesce(credits, 0) || ' credited, its entries sum to '
           || coalesce(summed_debits, 0) || ' and ' || coalesce(summed_credits, 0)
    FROM balances
    FULL JOIN (
        SELECT account_id, lane, sum(greatest(amount_minor, 0)) AS summed_debits,
               sum(-least(amount_minor, 0)) AS summed_credits
        FROM transfer_entries WHERE NOT is_hold GROUP BY account_id, lane
    ) AS summed USING (account_id, lane)
    LEFT JOIN accounts ON accounts.id = account_id
    WHERE (coalesce(debits, 0), coalesce(credits, 0)) <> (coalesce(summed_debits, 0), coalesce(summed_credits, 0))
"""

HELD = """
    SELECT 'balances-are-entries', coalesce(path, account_id::text),
           'holds ' || coalesce(held_debits, 0) || ' of debits and ' || coalesce(held_credits, 0)
           || ' of credits, its holds that stand sum to ' || coalesce(summed_debits, 0) || ' and '
           || coalesce(summed_credits, 0)
    FROM (
        SELECT account_id, sum(held_debits) AS held_debits, sum(held_credits) AS held_credits
        FROM balances GROUP BY account_id
    ) AS kept
    FULL JOIN (
        SELECT account_id, sum(greatest(amount_minor, 0)) AS summed_debits,
               sum(-least(amount_minor, 0)) AS summed_credits
        FROM transfer_entries
        WHERE is_hold AND NOT EXISTS (
            SELECT FROM transfers WHERE of_id = transfer_id AND kind IN ('POST', 'VOID')
        )
        GROUP BY account_id
    ) AS summed USING (account_id)
    LEFT JOIN accounts ON accounts.id = account_id
    WHERE (coalesce(held_debits, 0), coalesce(held_credits, 0))
          <> (coalesce(summed_debits, 0), coalesce(summed_credits, 0))
"""
"""By account, not by row: a hold may be released on another row of its account than it was made on."""

RUNNING = """
    SELECT 'running-totals', transfer_id || '/' || ordinal,
           'has ' || debits_after || ' and ' || credits_after || ' after it, the entries so far sum to '
           || summed_debits || ' and ' || summed_credits
    FROM (
        SELECT transfer_id, ordinal, debits_after, credits_after,
               sum(CASE WHEN is_hold THEN 0 ELSE greatest(amount_minor, 0) END) OVER so_far AS summed_debits,
               sum(CASE WHEN is_hold THEN 0 ELSE -least(amount_minor, 0) END) OVER so_far AS summed_credits
        FROM transfer_entries
        WINDOW so_far AS (
            PARTITION BY account_id, lane ORDER BY booked_at, transfer_id, ordinal ROWS UNBOUNDED PRECEDING
        )
    ) AS summed
    WHERE (debits_after, credits_after) <> (summed_debits, summed_credits)
"""

LIMITS = """
    SELECT 'within-limits', path,
           available || ' available and ' || expected || ' expected, between ' || coalesce(floor_minor::text, 'any')
           || ' and ' || coalesce(ceiling_minor::text, 'any')
    FROM (
        SELECT account_id, floor_minor, ceiling_minor,
               CASE WHEN kind IN ('ASSET', 'EXPENSE') THEN debits - credits - held_credits
                    ELSE credits - debits - held_debits END AS available,
               CASE WHEN kind IN ('ASSET', 'EXPENSE') THEN debits - credits + held_debits
                    ELSE credits - debits + held_credits END AS expected
        FROM balances JOIN accounts ON accounts.id = account_id
    ) AS kept
    JOIN accounts ON accounts.id = account_id
    WHERE available < floor_minor OR expected > ceiling_minor
"""

HOLDS = """
    SELECT 'holds-resolved-once', coalesce(reference, wrong.of_id::text), problem
    FROM (
        SELECT of_id, 'was resolved ' || count(*) || ' times' AS problem
        FROM transfers WHERE kind IN ('POST', 'VOID') GROUP BY of_id HAVING count(*) > 1
        UNION ALL
        SELECT resolving.of_id, 'is no hold, but ' || resolving.reference || ' resolves it'
        FROM transfers AS resolving LEFT JOIN transfers AS hold ON hold.id = resolving.of_id AND hold.kind = 'HOLD'
        WHERE resolving.kind IN ('POST', 'VOID') AND hold.id IS NULL
        UNION ALL
        SELECT of_id, 'holds ' || coalesce(sum(amount_minor) FILTER (WHERE is_hold), 0) || ' on account '
               || account_id || ', ' || sum(amount_minor) FILTER (WHERE NOT is_hold) || ' was posted'
        FROM (
            SELECT posted.of_id, account_id, amount_minor, is_hold
            FROM transfers AS posted JOIN transfer_entries ON transfer_id IN (posted.id, posted.of_id)
            WHERE posted.kind = 'POST'
        ) AS sides
        GROUP BY of_id, account_id, amount_minor > 0
        HAVING coalesce(sum(abs(amount_minor)) FILTER (WHERE NOT is_hold), 0)
               > coalesce(sum(abs(amount_minor)) FILTER (WHERE is_hold), 0)
    ) AS wrong
    LEFT JOIN transfers ON transfers.id = wrong.of_id
"""

CHART_ACCOUNTS = ", ".join(
    f"('{chart.name}', '{code}', '{account.kind}', {account.is_owned},"
    f" CAST({'NULL' if account.floor_minor is None else account.floor_minor} AS bigint))"
    for chart in CHARTS.values()
    for code, account in chart.accounts.items()
)

CHARTED = f"""
    SELECT 'accounts-are-the-charts', path, problem
    FROM accounts
    LEFT JOIN (VALUES {CHART_ACCOUNTS}) AS charted (chart, code, kind, is_owned, floor_minor) USING (chart, code)
    LEFT JOIN (
        SELECT account_id, count(*) AS rows, min(lane) AS first, max(lane) AS last,
               count(*) FILTER (WHERE floor_minor IS NOT NULL OR ceiling_minor IS NOT NULL) AS limited,
               count(*) FILTER (WHERE is_closed) AS closed, min(floor_minor) AS floor_minor,
               sum(debits) <> sum(credits) OR sum(held_debits) <> 0 OR sum(held_credits) <> 0 AS is_filled
        FROM balances GROUP BY account_id
    ) AS kept ON account_id = accounts.id
    CROSS JOIN LATERAL (
        VALUES (charted.kind IS NULL, 'no chart has its code'),
               (path <> concat_ws(':', chart, code, owner, currency),
                'its path is not that of its chart, code, owner and currency'),
               ((owner IS NOT NULL) <> is_owned, 'it has an owner where its chart has none, or has none'),
               (accounts.kind <> charted.kind, 'it is ' || accounts.kind || ', its chart has ' || charted.kind),
               ((rows, first, last) IS DISTINCT FROM (CAST(lanes AS bigint), 0, lanes - 1),
                'it has ' || coalesce(rows, 0) || ' balance rows, not ' || lanes),
               (charted.floor_minor IS NOT NULL AND kept.floor_minor IS DISTINCT FROM charted.floor_minor,
                'its floor is ' || coalesce(kept.floor_minor::text, 'removed') || ', its chart has '
                || charted.floor_minor),
               (limited > 0 AND rows > 1, 'it has a limit and several balance rows, so that nothing can hold it'),
               (closed > 0 AND (closed < rows OR is_filled), 'it is closed in part, or with money in it')
    ) AS found (is_wrong, problem)
    WHERE is_wrong
"""  # noqa: S608 - our own charts
"""A limit that an account has of its own, its chart does not say; a limit of its chart no account may lack."""

PAYMENTS = """
    SELECT 'payments-as-moved', payment_id,
           'is ' || coalesce(payments.status || ' with version ' || payments.version, 'unknown') || '; '
           || coalesce(changes, 0) || ' transfers moved it'
           || coalesce(', the last one to ' || moved.status || ' with version ' || moved.version, '')
    FROM payments
    FULL JOIN (
        SELECT payment_id, count(*) AS changes, max(payment_version) AS version,
               (array_agg(payment_status ORDER BY payment_version DESC))[1] AS status
        FROM transfers WHERE payment_id IS NOT NULL GROUP BY payment_id
    ) AS moved USING (payment_id)
    WHERE (payments.version, payments.status) IS DISTINCT FROM (moved.version, moved.status)
       OR changes <> moved.version
"""

DIFFERENCES = (UNBALANCED, BALANCES, HELD, RUNNING, LIMITS, HOLDS, CHARTED, PAYMENTS)

WITHOUT_EFFECT = """
    SELECT 'booked-by-steps', reference,
           CASE WHEN saga_id IS NULL THEN 'belongs to no saga, and is no void of a hold whose end had passed'
                ELSE 'is of step ' || coalesce(step, 'none') || ' of ' || saga_id || ', which is '
                     || coalesce(state, 'unknown') END
    FROM transfers LEFT JOIN effects USING (saga_id, step)
    WHERE NOT coalesce(
        CASE WHEN saga_id IS NOT NULL
             THEN reference = concat_ws(':', saga_id, step) AND state IN ('DONE', 'UNDONE')
                  OR reference = concat_ws(':', saga_id, step, 'undo') AND state = 'UNDONE'
                  OR reference = concat_ws(':', saga_id, step, 'corrected') AND state = 'DONE'
                  AND step IN ('post_allocation', 'post_repayment')
                  OR step IN ('capture_or_void', 'refund_gateway') AND EXISTS (
                      SELECT FROM transfers AS named JOIN effects AS own ON own.saga_id = transfers.saga_id
                      WHERE named.id = transfers.of_id
                        AND (transfers.kind = 'POST' AND transfers.reference = concat_ws(':', transfers.saga_id,
                                                                                         transfers.step)
                             AND named.step = 'reserve_balance'
                             AND own.step IN ('reserve_balance', 'commit_ledger') AND own.state IN ('DONE', 'UNDONE')
                             OR transfers.kind = 'CORRECTION'
                             AND transfers.reference = concat_ws(':', named.reference, 'undo')
                             AND own.step = 'reserve_balance' AND own.state = 'UNDONE'))
                  OR EXISTS (
                      SELECT FROM late_captures AS late
                      WHERE late.saga_id = transfers.saga_id AND late.accepted_by IS NOT NULL
                        AND (transfers.step = 'capture_or_void' AND transfers.kind = 'TRANSFER'
                             AND transfers.reference = concat_ws(':', late.saga_id, transfers.step)
                             OR transfers.step = 'capture_or_void' AND transfers.kind = 'CORRECTION' AND late.has_failed
                             AND transfers.reference = concat_ws(':', late.saga_id, transfers.step, 'undo')
                             OR transfers.step = 'reserve_balance' AND transfers.kind = 'VOID' AND EXISTS (
                                 SELECT FROM effects AS own WHERE own.saga_id = late.saga_id
                                 AND own.step = 'commit_ledger' AND own.state = 'DONE')))
             ELSE kind = 'VOID' AND EXISTS (
                 SELECT FROM transfers AS hold
                 WHERE hold.id = transfers.of_id AND hold.kind = 'HOLD' AND hold.expires_at <= transfers.booked_at
                   AND transfers.reference = concat_ws(':', hold.reference, 'expired')
             ) END,
        false
    )
"""
"""Whether the effects are those of known sagas, the invariant ``effects-settled`` says. The post of a payment's or a
refund's hold has the reference of the gateway's step, whose outcome it is; it belongs to the ledger's own steps.
What a gateway has accepted of a later capture is booked beside the hold, which the commit of that capture voids. What
a late payment of a loan changes of the parts of others is corrected by its own step."""

MANUAL = """
    SELECT 'booked-as-proposed', posting_id,
           'the ' || transfers.kind || ' of its saga has another value date, or other entries'
    FROM manual_postings
    JOIN transfers ON saga_id = posting_id AND step IN ('hold_manual_posting', 'post_manual_posting')
                      AND transfers.kind IN ('HOLD', 'POST')
    CROSS JOIN LATERAL (
        SELECT array_agg(path ORDER BY ordinal) AS paths, array_agg(amount_minor ORDER BY ordinal) AS booked,
               array_agg(currency ORDER BY ordinal) AS booked_currencies
        FROM transfer_entries LEFT JOIN accounts ON accounts.id = account_id
        WHERE transfer_id = transfers.id
    ) AS listed
    WHERE manual_postings.effective_at <> transfers.effective_at
       OR (manual_postings.accounts, amounts, currencies) IS DISTINCT FROM (paths, booked, booked_currencies)
"""

DIFFERENCES_FROM_SAGAS = (WITHOUT_EFFECT, MANUAL)
"""Of the ledger and the sagas that it belongs to: a benchmark's books have no sagas."""


def _invariant(name: str, rule: str) -> Invariant:
    return Invariant(
        name=name,
        rule=rule,
        checked=f"SELECT coalesce(sum(count), 0) FROM ledger_counts WHERE rule = '{name}'",  # noqa: S608 - our own name
        offenders=f"SELECT id, problem FROM ledger_differences WHERE rule = '{name}'",  # noqa: S608
    )


LEDGER_INVARIANTS = (
    _invariant(
        "transfers-balanced", "Every transfer has all of its entries, and they sum to zero in each chart and currency."
    ),
    _invariant("balances-are-entries", "Every balance is the sum of its entries, and what it holds that of its holds."),
    _invariant("running-totals", "The totals in every entry are the sums of all entries before it and its own."),
    _invariant("within-limits", "No account is below its floor or above its ceiling, holds included."),
    _invariant("holds-resolved-once", "A hold is resolved once at most, and not for more than was held."),
    _invariant("payments-as-moved", "Every payment has the status and version that its last transfer gave it."),
    _invariant("accounts-are-the-charts", "Every account has the kind, path, rows and limits that its chart gives it."),
)

SAGA_INVARIANTS = (
    _invariant("booked-as-proposed", "What was booked for a manual posting are its entries, at its value date."),
    _invariant("booked-by-steps", "Every transfer is what a step did or undid, or the void of a hold that had ended."),
)
