"""Matches the ledger, our records of the gateway, and its feed: one statement for all lines of a run.

Items are joined by our payment's number, or by the gateway's id of the payment; a refund by the gateway's id of the
refund besides. An amount or a day never joins anything. What moved and was taken back is summed on each side first,
so that a partial capture of two lines is one capture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

ITEM = """CASE
                   WHEN movement NOT IN ('CAPTURE', 'REFUND', 'DISPUTE') THEN 'l:' || line_id
                   WHEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) IS NOT NULL
                       THEN 'p:' || coalesce(own.payment_id, other.payment_id, feed_lines.payment_id)
                   WHEN feed_lines.gateway_payment_id IS NOT NULL THEN 'g:' || feed_lines.gateway_payment_id
                   ELSE 'l:' || line_id
               END"""
"""What a line is about. A payment's number counts before the gateway's id, if we know the number."""
JOINS = """LEFT JOIN payments AS own ON own.account = :account AND own.payment_id = feed_lines.payment_id
        LEFT JOIN payments AS other
            ON other.account = :account AND other.gateway_payment_id = feed_lines.gateway_payment_id"""
LINES_IN_SCOPE = f"""SELECT CAST(:run AS integer), item, payment_id FROM (
        SELECT {ITEM} AS item,
               CASE WHEN movement IN ('CAPTURE', 'REFUND', 'DISPUTE')
                    THEN coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) END AS payment_id
        FROM feed_lines
        {JOINS}"""
SCOPE_OF_DAY = text(f"""
    INSERT INTO run_scope (run, item, payment_id)
    SELECT DISTINCT CAST(:run AS integer), 'p:' || payment_id, payment_id FROM records
    WHERE account = :account AND occurred_at >= :begin AND occurred_at < :end
    UNION
    {LINES_IN_SCOPE}
        WHERE feed_lines.account = :account AND occurred_at >= :begin AND occurred_at < :end
    ) AS of_lines
""")
SCOPE_OF_CHANGES = text(f"""
    INSERT INTO run_scope (run, item, payment_id)
    SELECT DISTINCT CAST(:run AS integer), 'p:' || payment_id, payment_id FROM records
    WHERE account = :account AND recorded_at > :since
    UNION
    {LINES_IN_SCOPE}
        WHERE feed_lines.account = :account AND (loaded_at > :since OR superseded_at > :since)
    ) AS of_lines
    UNION
    SELECT CAST(:run AS integer), item, CASE WHEN item LIKE 'p:%' THEN CAST(substr(item, 3) AS bigint) END
    FROM pending WHERE account = :account AND check_at <= :as_of
    UNION
    SELECT CAST(:run AS integer), item, CASE WHEN item LIKE 'p:%' THEN CAST(substr(item, 3) AS bigint) END
    FROM divergences WHERE account = :account AND state = 'OPEN'
""")
UNSCOPE = text("DELETE FROM run_scope WHERE run = :run")

ALL_RECORDS = "records.account = :account"
SCOPED_RECORDS = """records.account = :account AND records.payment_id IN (
            SELECT payment_id FROM run_scope WHERE run = :run AND payment_id IS NOT NULL)"""
ALL_LINES = "feed_lines.account = :account AND superseded_at IS NULL"
SCOPED_LINES = """feed_lines.account = :account AND superseded_at IS NULL AND (file_id, number) IN (
            SELECT file_id, number FROM feed_lines
            WHERE payment_id IN (SELECT payment_id FROM run_scope WHERE run = :run AND payment_id IS NOT NULL)
            UNION ALL
            SELECT file_id, number FROM feed_lines
            WHERE gateway_payment_id IN (
                SELECT gateway_payment_id FROM payments
                WHERE account = :account AND payment_id IN (
                    SELECT payment_id FROM run_scope WHERE run = :run AND payment_id IS NOT NULL)
                UNION ALL
                SELECT substr(item, 3) FROM run_scope WHERE run = :run AND item LIKE 'g:%')
            UNION ALL
            SELECT file_id, number FROM feed_lines
            WHERE account = :account AND line_id IN (
                SELECT substr(item, 3) FROM run_scope WHERE run = :run AND item LIKE 'l:%'))"""
ALL_ITEMS = "true"
SCOPED_ITEMS = "item IN (SELECT item FROM run_scope WHERE run = :run)"
MATCH = """
    INSERT INTO run_lines (run, number, state, item, movement, key, payment_id, currency, ledger_minor, gateway_minor,
                           feed_minor, feed_currency, fee_minor, batch, occurred_at, check_at)
    WITH due AS (
        SELECT * FROM unnest(CAST(:days AS date[]), CAST(:missing AS timestamptz[]), CAST(:late AS timestamptz[]))
            AS due (day, missing_at, late_at)
    ), books AS (
        SELECT 'p:' || records.payment_id AS item, records.movement,
               CASE WHEN records.movement = 'REFUND'
                    THEN coalesce(refund.reference, records.reference, '') ELSE '' END AS key,
               max(records.payment_id) AS payment_id,
               min(records.currency) AS currency, max(records.currency) AS other_currency,
               sum(records.amount_minor) FILTER (WHERE records.source = 'LEDGER') AS ledger_minor,
               sum(records.amount_minor) FILTER (WHERE records.source = 'GATEWAY') AS gateway_minor,
               count(*) FILTER (
                   WHERE records.source = 'LEDGER' AND records.kind IN ('CAPTURE', 'REFUND', 'DISPUTED')) AS principals,
               min(records.occurred_at) AS occurred_at,
               max(records.recorded_at) AS known_at
        FROM records
        LEFT JOIN records AS refund ON records.kind = 'REFUND_FAILED' AND refund.kind = 'REFUND'
            AND refund.refund_id = records.refund_id AND refund.source = records.source
        WHERE {records}
        GROUP BY 1, 2, 3
    ), lines AS (
        SELECT {ITEM} AS item,
               movement, CASE WHEN movement = 'REFUND' THEN coalesce(reference, '') ELSE '' END AS key,
               coalesce(own.payment_id, other.payment_id, feed_lines.payment_id) AS payment_id,
               is_principal, currency, fee_minor, net_minor, batch, occurred_at, loaded_at,
               CASE WHEN movement = 'PAYOUT' THEN net_minor ELSE amount_minor END AS amount_minor
        FROM feed_lines
        {JOINS}
        WHERE {lines}
    ), feed AS (
        SELECT item, movement, key, max(payment_id) AS payment_id,
               min(currency) AS currency, max(currency) AS other_currency, sum(amount_minor) AS minor,
               sum(fee_minor) AS fee_minor, count(*) FILTER (WHERE is_principal) AS principals, max(batch) AS batch,
               min(occurred_at) AS occurred_at, max(loaded_at) AS known_at
        FROM lines WHERE {items} GROUP BY 1, 2, 3
    ), joined AS (
        SELECT coalesce(books.item, feed.item) AS item, coalesce(books.movement, feed.movement) AS movement,
               coalesce(books.key, feed.key) AS key, coalesce(books.payment_id, feed.payment_id) AS payment_id,
               books.ledger_minor, books.gateway_minor, feed.minor AS feed_minor, feed.fee_minor, feed.batch,
               coalesce(books.currency, feed.currency) AS currency, feed.currency AS feed_currency,
               books.currency <> books.other_currency OR feed.currency <> feed.other_currency
                   OR books.currency <> feed.currency AS is_mixed,
               books.principals, feed.principals AS feed_principals,
               coalesce(books.occurred_at, feed.occurred_at) AS occurred_at, feed.occurred_at AS feed_at,
               greatest(books.known_at, feed.known_at) AS known_at
        FROM books FULL JOIN feed ON feed.item = books.item AND feed.movement = books.movement AND feed.key = books.key
    ), judged AS (
        SELECT joined.*, due.missing_at, due.late_at, known_at > :as_of - CAST(:grace AS interval) AS is_fresh
        FROM joined LEFT JOIN due ON due.day = CAST(joined.occurred_at AT TIME ZONE 'UTC' AS date)
    ), stated AS (
        SELECT judged.*, CASE
            WHEN movement IN ('COST', 'TRANSFER') THEN 'FEE_ONLY'
            WHEN movement = 'PAYOUT' AND coalesce((
                SELECT sum(net_minor) FROM feed_lines
                WHERE account = :account AND superseded_at IS NULL AND batch = judged.batch AND movement <> 'PAYOUT'
                ) + (
                SELECT sum(net_minor) FROM feed_lines
                WHERE account = :account AND superseded_at IS NULL AND batch = judged.batch AND movement = 'PAYOUT'
                ), 0) = 0 THEN 'MATCHED'
            WHEN feed_minor IS NOT NULL AND NOT is_mixed AND feed_minor = ledger_minor AND ledger_minor = gateway_minor
                THEN CASE WHEN feed_at >= late_at THEN 'LATE' ELSE 'MATCHED' END
            WHEN feed_minor IS NULL AND coalesce(ledger_minor, 0) = 0 AND coalesce(gateway_minor, 0) = 0 THEN 'MATCHED'
            WHEN is_fresh THEN 'PENDING'
            WHEN movement = 'PAYOUT' THEN 'AMOUNT_MISMATCH'
            WHEN ledger_minor IS NULL THEN 'MISSING_IN_LEDGER'
            WHEN feed_minor IS NULL AND gateway_minor IS NULL THEN 'STATE_MISMATCH'
            WHEN is_mixed THEN 'CURRENCY_MISMATCH'
            WHEN feed_minor IS NULL AND gateway_minor <> ledger_minor THEN 'AMOUNT_MISMATCH'
            WHEN feed_minor IS NULL AND missing_at > :as_of THEN 'PENDING'
            WHEN feed_minor IS NULL THEN 'MISSING_AT_GATEWAY'
            WHEN feed_principals > principals AND principals > 0 AND abs(feed_minor) > abs(ledger_minor)
                THEN 'DUPLICATE'
            WHEN (feed_minor = 0) <> (ledger_minor = 0) OR gateway_minor IS NULL THEN 'STATE_MISMATCH'
            ELSE 'AMOUNT_MISMATCH'
        END AS state
        FROM judged
    )
    SELECT CAST(:run AS integer), row_number() OVER (), state, item, movement, key, payment_id, currency, ledger_minor,
           gateway_minor, feed_minor, feed_currency, fee_minor, batch, occurred_at,
           CASE WHEN state = 'PENDING' THEN CASE WHEN is_fresh THEN known_at + CAST(:grace AS interval)
                                                 ELSE missing_at END END
    FROM stated
"""
MATCH_ALL = text(MATCH.format(ITEM=ITEM, JOINS=JOINS, records=ALL_RECORDS, lines=ALL_LINES, items=ALL_ITEMS))
MATCH_SCOPED = text(
    MATCH.format(ITEM=ITEM, JOINS=JOINS, records=SCOPED_RECORDS, lines=SCOPED_LINES, items=SCOPED_ITEMS)
)
FIRST_DAY = text("""
    SELECT CAST(least(
        (SELECT min(occurred_at) FROM records WHERE account = :account),
        (SELECT min(occurred_at) FROM feed_lines WHERE account = :account)
    ) AT TIME ZONE 'UTC' AS date)
""")
MANY_AT_ONCE = text("SET LOCAL work_mem = '128MB'; SET LOCAL jit = off")
"""A million lines are hashed in memory; one run is under way at a time."""
HASHED = text("SET LOCAL enable_nestloop = off")
"""What was just loaded has no statistics yet, and is taken for one row. A run over everything must not loop over it."""
PLANNED = text("SET LOCAL enable_nestloop = on")
PENDING_DONE = text("""
    DELETE FROM pending WHERE account = :account
        AND (CAST(:is_all AS boolean) OR item IN (SELECT item FROM run_scope WHERE run = :run))
""")
PENDING_ADD = text("""
    INSERT INTO pending (account, item, movement, key, check_at)
    SELECT :account, item, movement, key, check_at FROM run_lines WHERE run = :run AND state = 'PENDING'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a run looks at: one day of payments, what changed ``since`` a time, or everything where both are None."""

    day: tuple[datetime, datetime] | None = None
    since: datetime | None = None

    @property
    def is_all(self) -> bool:
        """Whether it looks at everything."""
        return self.day is None and self.since is None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTimes:
    """By day, from when on a payment is missing in the feed, and from when on its line is late."""

    days: Sequence[date]
    missing: Sequence[datetime]
    late: Sequence[datetime]


def first_day(account: str, tx: Connection) -> date | None:
    """Return the first day of an account's payments."""
    found: date | None = tx.execute(FIRST_DAY, {"account": account}).scalar_one()
    return found


def match(
    account: str, run: int, scope: Scope, due: DueTimes, tx: Connection, *, as_of: datetime, grace_s: float
) -> None:
    """Write the lines of a run, and what of them is pending."""
    tx.execute(MANY_AT_ONCE)
    values: Mapping[str, Any] = {"account": account, "run": run, "as_of": as_of, "is_all": scope.is_all}
    if scope.day is not None:
        tx.execute(SCOPE_OF_DAY, {**values, "begin": scope.day[0], "end": scope.day[1]})
    elif scope.since is not None:
        tx.execute(SCOPE_OF_CHANGES, {**values, "since": scope.since})
    tx.execute(HASHED if scope.is_all else PLANNED)
    times = {"days": list(due.days), "missing": list(due.missing), "late": list(due.late)}
    tx.execute(MATCH_ALL if scope.is_all else MATCH_SCOPED, {**values, **times, "grace": f"{grace_s} seconds"})
    tx.execute(PLANNED)
    tx.execute(PENDING_DONE, values)
    tx.execute(PENDING_ADD, values)
