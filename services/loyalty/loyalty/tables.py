"""Loyalty's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Row,
    Table,
    Text,
    func,
    text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from loyalty.domain import Accounts, Burn, BurnState
from messages.inventory import InventoryReserved
from messages.loyalty import RestoreLoyaltyPoints

metadata = service_metadata()
accounts = Table(
    "accounts",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("granted", BigInteger, nullable=False, comment="all points ever granted, less those withdrawn by hand"),
    Column("balance", BigInteger, CheckConstraint("balance >= 0"), nullable=False),
)
burns = Table(
    "burns",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

BURN_COLUMNS = Columns.of(burns, without=["updated_at"])
BURNED = BURN_COLUMNS.without("state")

LOCK_ACCOUNTS = Statement("""
    SELECT customer_id, balance FROM accounts
    WHERE customer_id = ANY(CAST(%(customer_ids)s AS text[])) ORDER BY customer_id FOR UPDATE
""")

LOCK_ALL_ACCOUNTS = Statement("""
    SELECT customer_id FROM accounts
    WHERE customer_id = ANY(CAST(%(customer_ids)s AS text[]) || ARRAY(
        SELECT customer_id FROM burns WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))))
    ORDER BY customer_id FOR UPDATE
""")

LOCK_BURNS = Statement(f"""
    SELECT {BURN_COLUMNS.names} FROM burns
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id FOR UPDATE
""")

MOVE = Statement("""
    UPDATE accounts SET balance = accounts.balance + row.points
    FROM unnest(CAST(%(customer_ids)s AS text[]), CAST(%(points)s AS bigint[])) AS row (customer_id, points)
    WHERE accounts.customer_id = row.customer_id
""")

BURN = Statement(f"""
    INSERT INTO burns ({BURNED.names}, state)
    SELECT {BURNED.values}, 'BURNED'
    FROM {BURNED.rows}
""")

RESTORE = Statement("""
    UPDATE burns SET state = 'RESTORED', updated_at = now() WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
""")

GRANT = text("""
    INSERT INTO accounts (customer_id, granted, balance)
    SELECT customer_id, points, points
    FROM unnest(CAST(:customer_ids AS text[]), CAST(:points AS bigint[])) AS row (customer_id, points)
    ORDER BY customer_id
    ON CONFLICT (customer_id) DO UPDATE
    SET granted = accounts.granted + excluded.balance - accounts.balance, balance = excluded.balance
""")

FIND = text("SELECT customer_id, granted, balance FROM accounts WHERE customer_id = :customer_id")


def lock_accounts(messages: Sequence[InventoryReserved | RestoreLoyaltyPoints], tx: Connection) -> None:
    """Lock the accounts of these orders' customers, of those who burn points and of those who have burned some."""
    burning = [message for message in messages if isinstance(message, InventoryReserved) and message.points_to_burn]
    saga_ids = [message.saga_id for message in messages if isinstance(message, RestoreLoyaltyPoints)]
    customer_ids = sorted({message.customer_id for message in burning})
    LOCK_ALL_ACCOUNTS.run(tx, {"customer_ids": customer_ids, "saga_ids": saga_ids})


def load_accounts(events: Sequence[InventoryReserved], tx: Connection) -> Accounts:
    """Lock the accounts of the customers who burn points; the others need none."""
    return Accounts(balances=_lock(tx, {event.customer_id for event in events if event.points_to_burn}))


def load_burns(commands: Sequence[RestoreLoyaltyPoints], tx: Connection) -> Accounts:
    """Lock the burns of these orders and their customers' accounts."""
    rows = LOCK_BURNS.rows(tx, {"saga_ids": [command.saga_id for command in commands]})
    found = {
        row.saga_id: Burn(
            saga_id=row.saga_id, customer_id=row.customer_id, points=row.points, state=BurnState(row.state)
        )
        for row in rows
    }
    return Accounts(balances=_lock(tx, {burn.customer_id for burn in found.values()}), burns=found)


def save_accounts(changed: Accounts, tx: Connection) -> None:
    """Save the changes of a batch, in one statement for each table and kind of change."""
    moved = {customer_id: points for customer_id, points in sorted(changed.moved.items()) if points}
    if moved:
        MOVE.run(tx, {"customer_ids": list(moved), "points": list(moved.values())})
    if changed.made:
        BURN.run(tx, BURNED.parameters(sorted(changed.made, key=lambda each: each.saga_id)))
    if changed.restored:
        RESTORE.run(tx, {"saga_ids": sorted(each.saga_id for each in changed.restored)})


def grant(tx: Connection, points: Mapping[str, int]) -> None:
    """Set the balance of each account. The difference is added to ``granted``."""
    tx.execute(GRANT, {"customer_ids": list(points), "points": list(points.values())})


def find(tx: Connection, customer_id: str) -> Row[tuple[str, int, int]] | None:
    """Return (customer_id, granted, balance), or None."""
    return tx.execute(FIND, {"customer_id": customer_id}).one_or_none()


def _lock(tx: Connection, customer_ids: Iterable[str]) -> dict[str, int]:
    rows = LOCK_ACCOUNTS.rows(tx, {"customer_ids": sorted(customer_ids)})
    return {row.customer_id: row.balance for row in rows}
