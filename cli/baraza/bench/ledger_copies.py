"""Copies an order's transfers in the ledger, in bulk: ids, running totals, balances and batches fit one another.

A copy is booked now, after everything else, as if the service had posted it. The sealer seals it like any other.
"""

from __future__ import annotations

import psycopg

LOCK = "SELECT pg_advisory_xact_lock_shared(x'6c65646700000001'::bigint); LOCK TABLE balances IN EXCLUSIVE MODE"
NUMBER = """
    CREATE TEMPORARY TABLE copied ON COMMIT DROP AS
    SELECT original_id, number, ((first + nth / 1024) << 10) | mod(nth, 1024) AS id, nth
    FROM (
        SELECT original.id AS original_id, number,
               row_number() OVER (ORDER BY number, original.id) - 1 AS nth
        FROM transfers AS original, generate_series(%(start)s::bigint, %(last)s::bigint) AS number
        WHERE original.saga_id >= %(first_original)s
    ) AS numbered
    CROSS JOIN (SELECT nextval('ledger_blocks') AS first) AS taken
"""
INDEX = "CREATE INDEX ON copied (original_id, number)"
ANALYSE = "ANALYZE copied"
TAKE_BLOCKS = "SELECT setval('ledger_blocks', max(id) >> 10) FROM copied HAVING count(*) > 0"
TRANSFERS = """
    INSERT INTO transfers (id, reference, kind, of_id, booked_at, effective_at, expires_at, exchange_rate, is_late,
                           entry_count, saga_id, step, message_id)
    SELECT copied.id, lpad(copied.number::text, %(length)s, '0') || substr(reference, %(length)s + 1), kind, named.id,
           now(), now(), expires_at, exchange_rate, false, entry_count,
           lpad(copied.number::text, %(length)s, '0') || substr(saga_id, %(length)s + 1), step, message_id
    FROM copied
    JOIN transfers AS original ON original.id = original_id
    LEFT JOIN copied AS named ON named.original_id = original.of_id AND named.number = copied.number
"""
ENTRIES = """
    INSERT INTO transfer_entries (transfer_id, ordinal, account_id, lane, amount_minor, is_hold, booked_at,
                                  effective_at, debits_after, credits_after)
    SELECT copied.id, ordinal, account_id, lane, amount_minor, is_hold, now(), now(),
           debits + sum(CASE WHEN is_hold THEN 0 ELSE greatest(amount_minor, 0) END) OVER so_far,
           credits + sum(CASE WHEN is_hold THEN 0 ELSE -least(amount_minor, 0) END) OVER so_far
    FROM copied
    JOIN transfer_entries ON transfer_id = original_id
    JOIN balances USING (account_id, lane)
    WINDOW so_far AS (PARTITION BY account_id, lane ORDER BY copied.id, ordinal ROWS UNBOUNDED PRECEDING)
"""
BALANCES = """
    UPDATE balances
    SET debits = debits + added.added_debits, credits = credits + added.added_credits,
        held_debits = held_debits + added.added_held_debits, held_credits = held_credits + added.added_held_credits,
        booked_at = now()
    FROM (
        SELECT account_id, lane,
               coalesce(sum(greatest(amount_minor, 0)) FILTER (WHERE NOT is_hold), 0) AS added_debits,
               coalesce(sum(-least(amount_minor, 0)) FILTER (WHERE NOT is_hold), 0) AS added_credits,
               coalesce(sum(greatest(amount_minor, 0)) FILTER (WHERE is_open), 0) AS added_held_debits,
               coalesce(sum(-least(amount_minor, 0)) FILTER (WHERE is_open), 0) AS added_held_credits
        FROM (
            SELECT account_id, lane, amount_minor, is_hold, is_hold AND NOT EXISTS (
                SELECT FROM transfers WHERE of_id = transfer_id AND kind IN ('POST', 'VOID')) AS is_open
            FROM copied JOIN transfer_entries ON transfer_id = copied.id
        ) AS copies
        GROUP BY account_id, lane
    ) AS added
    WHERE (balances.account_id, balances.lane) = (added.account_id, added.lane)
"""
BATCHES = """
    INSERT INTO batches (id, transfer_count, booked_at)
    SELECT id >> 10, count(*), now() FROM copied GROUP BY id >> 10
"""


def copy_transfers(
    connection: psycopg.Connection[tuple[object, ...]], copies: range, *, first_original: str, length: int
) -> None:
    """Copy the transfers of every original saga, once for each number. The caller commits.

    ``length`` is the number of characters of a saga's id that the copy's number replaces.
    """
    values = {
        "start": copies.start,
        "last": copies.stop - 1,
        "first_original": first_original,
        "length": length,
    }
    for statement in (LOCK, NUMBER, INDEX, ANALYSE, TAKE_BLOCKS, TRANSFERS, ENTRIES, BALANCES, BATCHES):
        connection.execute(statement, values if "%(" in statement else None)
