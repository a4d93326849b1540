"""Settlements: what a gateway paid for a batch. Each is reported once, whatever is delivered again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, text

WAITS_MAX: Final = timedelta(days=1)
"""How long a batch waits for captures in it that the ledger does not have yet; then it is reported without them."""
PAID = text("""
    SELECT batch, settlement_currency AS currency, -sum(net_minor) AS paid_minor, max(occurred_at) AS settled_at,
           min(loaded_at) AS loaded_at
    FROM feed_lines AS paid
    WHERE account = :account AND movement = 'PAYOUT' AND superseded_at IS NULL AND batch IS NOT NULL
      AND NOT EXISTS (
          SELECT FROM settlements WHERE settlements.account = paid.account AND settlements.batch = paid.batch
              AND settlements.currency = paid.settlement_currency)
    GROUP BY batch, settlement_currency
    ORDER BY max(occurred_at), batch LIMIT 100
""")
RESOLVED = """
    SELECT feed_lines.*, coalesce(own.payment_id, other.payment_id) AS known_id,
           coalesce(own.merchant_id, other.merchant_id) AS merchant_id, coalesce(own.is_live, other.is_live) AS is_live
    FROM feed_lines
    LEFT JOIN payments AS own ON own.account = :account AND own.payment_id = feed_lines.payment_id
    LEFT JOIN payments AS other
        ON other.account = :account AND other.gateway_payment_id = feed_lines.gateway_payment_id
    WHERE feed_lines.account = :account AND batch = :batch AND superseded_at IS NULL
"""
TOTALS = text(f"""
    WITH lines AS ({RESOLVED})
    SELECT coalesce(sum(fee_minor) FILTER (WHERE movement NOT IN ('PAYOUT', 'TRANSFER')), 0) AS cost_minor,
           count(*) FILTER (
               WHERE movement = 'CAPTURE' AND is_principal AND (known_id IS NULL OR NOT EXISTS (
                   SELECT FROM records WHERE records.payment_id = known_id AND kind = 'CAPTURE' AND source = 'LEDGER'))
           ) AS unknown
    FROM lines
""")
RELEASES = text(f"""
    WITH lines AS ({RESOLVED}), released AS (
        UPDATE payments SET released_batch = :batch
        WHERE account = :account AND released_batch IS NULL AND payment_id IN (
            SELECT known_id FROM lines WHERE movement = 'CAPTURE' AND is_principal)
        RETURNING payment_id, merchant_id, is_live
    )
    SELECT currency, released.merchant_id, released.is_live, sum(amount_minor - fee_minor) AS net_minor
    FROM released JOIN records ON records.payment_id = released.payment_id AND records.account = :account
    WHERE source = 'LEDGER' AND movement = 'CAPTURE'
    GROUP BY 1, 2, 3 HAVING sum(amount_minor - fee_minor) > 0
    ORDER BY 1, 2, 3
""")
"""A capture is released once, whatever the gateway settles again."""
ADD = text("""
    INSERT INTO settlements (account, batch, currency, saga_id, paid_minor, cost_minor, settled_at, state, reported_at)
    VALUES (:account, :batch, :currency, :saga_id, :paid_minor, :cost_minor, :settled_at, 'REPORTED', :now)
    ON CONFLICT DO NOTHING RETURNING saga_id
""")
END = text("""
    UPDATE settlements SET state = CASE WHEN CAST(:failure AS text) IS NULL THEN 'BOOKED' ELSE 'FAILED' END,
           failure = :failure, ended_at = :at
    WHERE saga_id = :saga_id AND state = 'REPORTED'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What becomes available to a merchant: its captures in the batch, less what we keep."""

    currency: str
    merchant_id: str
    is_live: bool
    net_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A batch that the gateway has paid. ``cost_minor`` is what it kept of it."""

    batch: str
    currency: str
    paid_minor: int
    cost_minor: int
    settled_at: datetime
    releases: Sequence[Release]


def unreported(account: str, tx: Connection, *, now: datetime) -> list[Settlement]:
    """Return the batches that are paid and can be reported now."""
    found = []
    for row in tx.execute(PAID, {"account": account}).all():
        settlement = _settlement(account, row, tx, now)
        if settlement is not None:
            found.append(settlement)
    return found


def _settlement(account: str, row: Row[Any], tx: Connection, now: datetime) -> Settlement | None:
    values = {"account": account, "batch": row.batch}
    totals = tx.execute(TOTALS, values).one()
    if totals.unknown and row.loaded_at > now - WAITS_MAX:
        return None
    return Settlement(
        batch=row.batch,
        currency=row.currency,
        paid_minor=int(row.paid_minor),
        cost_minor=int(totals.cost_minor),
        settled_at=row.settled_at,
        releases=[
            Release(currency=each.currency, merchant_id=each.merchant_id, is_live=each.is_live,
                    net_minor=int(each.net_minor))
            for each in tx.execute(RELEASES, values)
        ],
    )  # fmt: skip


def add(account: str, settlement: Settlement, currency: str, saga_id: str, tx: Connection, *, now: datetime) -> bool:
    """Record that a settlement is reported, in one currency; False where it was before."""
    is_paid = currency == settlement.currency
    values = {
        "account": account, "batch": settlement.batch, "currency": currency, "saga_id": saga_id,
        "paid_minor": settlement.paid_minor if is_paid else 0, "cost_minor": settlement.cost_minor if is_paid else 0,
        "settled_at": settlement.settled_at, "now": now,
    }  # fmt: skip
    return tx.execute(ADD, values).one_or_none() is not None


def end(saga_id: str, failure: str | None, tx: Connection, *, at: datetime) -> None:
    """Record how a settlement's saga ended."""
    tx.execute(END, {"saga_id": saga_id, "failure": failure, "at": at})
