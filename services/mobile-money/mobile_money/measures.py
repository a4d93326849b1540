"""What mobile-money measures: gauges of its tables."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from chassis.telemetry.table_gauges import measure, overdue
from mobile_money import tables

OVERDUE: Final = overdue(tables.OVERDUE)
MEASURES: Final = (
    OVERDUE,
    measure(
        "baraza_money_callbacks_waiting_seconds",
        "Age of the oldest callback that nothing was decided about yet.",
        (),
        text(
            "SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0) FROM raw_callbacks "
            "WHERE decide_at IS NOT NULL AND fate IS NULL"
        ),
    ),
    measure(
        "baraza_money_callbacks_orphaned_seconds",
        "Age of the oldest callback that matches nothing.",
        (),
        text(
            "SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0) FROM raw_callbacks WHERE fate = 'ORPHAN'"
        ),
    ),
    measure(
        "baraza_money_lane_paused",
        "1 for each lane that is paused, by short code, lane and reason.",
        ("short_code", "lane", "reason"),
        text("SELECT short_code, name, reason, 1 FROM lanes WHERE state = 'PAUSED'"),
    ),
    measure(
        "baraza_money_in_doubt",
        "Payouts whose outcome is not known for 15 minutes, by short code and lane.",
        ("short_code", "lane"),
        text(
            "SELECT short_code, lane, count(*) FROM payouts "
            "WHERE state = 'REQUESTED' AND requested_at < now() - interval '15 minutes' GROUP BY short_code, lane"
        ),
    ),
    measure(
        "baraza_money_in_doubt_oldest_seconds",
        "Age of the oldest payout whose outcome is not known, by short code.",
        ("short_code",),
        text(
            "SELECT short_code, extract(epoch FROM now() - min(requested_at)) FROM payouts "
            "WHERE state = 'REQUESTED' GROUP BY short_code"
        ),
    ),
    measure(
        "baraza_money_receipts_unconfirmed_oldest_seconds",
        "Age of the oldest receipt that only a callback has brought and the provider has not confirmed.",
        (),
        text(
            "SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0) FROM receipts WHERE state = 'UNCONFIRMED'"
        ),
    ),
    measure(
        "baraza_money_receipts_failed",
        "Receipts whose saga was stopped: a person starts it again.",
        (),
        text("SELECT count(*) FROM receipts WHERE state = 'FAILED'"),
    ),
    measure(
        "baraza_money_float_minor",
        "The utility account's balance that the provider showed last, without what is reserved, by short code.",
        ("short_code",),
        text("""
            SELECT short_code, utility_minor - coalesce((
                SELECT sum(amount_minor) FROM float_reservations AS reserved
                WHERE reserved.short_code = floats.short_code AND reserved.state = 'RESERVED'), 0)
            FROM floats WHERE utility_minor IS NOT NULL
        """),
    ),
    measure(
        "baraza_money_members_reserve_minor",
        "What no wave of dividends may take of the utility account, by short code.",
        ("short_code",),
        text("SELECT short_code, members_reserve_minor FROM floats"),
    ),
    measure(
        "baraza_money_balance_lag_seconds",
        "Since when the provider has not shown the balance of a short code, by short code.",
        ("short_code",),
        text("SELECT short_code, extract(epoch FROM now() - told_at) FROM floats WHERE told_at IS NOT NULL"),
    ),
    measure(
        "baraza_money_pull_lag_seconds",
        "Since when the payments of a short code were not listed, by short code.",
        ("short_code",),
        text("SELECT short_code, extract(epoch FROM now() - pulled_until) FROM pulls WHERE pulled_until IS NOT NULL"),
    ),
    measure(
        "baraza_money_statement_lag_seconds",
        "Since when no statement covers a short code, by short code and account.",
        ("short_code", "account"),
        text(
            "SELECT short_code, account, extract(epoch FROM now() - max(ends_at)) FROM statement_files "
            "GROUP BY short_code, account"
        ),
    ),
    measure(
        "baraza_money_statement_gaps",
        "Places in the statements of the last 30 days whose balances do not add up, by short code and account.",
        ("short_code", "account"),
        text(
            "SELECT short_code, account, sum(gaps) FROM statement_files WHERE ends_at > now() - interval '30 days' "
            "GROUP BY short_code, account"
        ),
    ),
    measure(
        "baraza_money_charges_differing",
        "Charges in statements that are not those of the tariff of their day, by short code.",
        ("short_code",),
        text(
            "SELECT short_code, count(*) FROM statement_rows WHERE match = 'LISTED' AND kind = 'CHARGE' "
            "AND reason LIKE 'the charge is%' GROUP BY short_code"
        ),
        age_max_s=60,
    ),
    measure(
        "baraza_money_claims",
        "Outcomes that staff have claimed, by state.",
        ("state",),
        text("SELECT state, count(*) FROM claims GROUP BY state"),
    ),
    measure(
        "baraza_money_callback_silence_seconds",
        "Since when no result of a payout has come while some are under way, by short code.",
        ("short_code",),
        text("""
            SELECT short_code, extract(epoch FROM now() - greatest(max(ended_at), min(requested_at) FILTER (
                WHERE state = 'REQUESTED')))
            FROM payouts WHERE state = 'REQUESTED' OR ended_at > now() - interval '1 hour'
            GROUP BY short_code HAVING count(*) FILTER (WHERE state = 'REQUESTED') > 0
        """),
    ),
    measure(
        "baraza_money_balance_limit_hits",
        "Prompts of the last day that our short code's balance limit has refused, by short code.",
        ("short_code",),
        text(
            "SELECT short_code, count(*) FROM prompts WHERE reason = 'balance_limit_of_ours' "
            "AND ended_at > now() - interval '1 day' GROUP BY short_code"
        ),
    ),
    measure(
        "baraza_money_token_lag_seconds",
        "Since when the token of a short code should have been renewed, by short code.",
        ("name",),
        text(
            "SELECT name, greatest(extract(epoch FROM now() - renew_at), 0) FROM provider_tokens "
            "WHERE renew_at IS NOT NULL"
        ),
    ),
)
