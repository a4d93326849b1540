"""Loyalty's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Index,
    Row,
    Table,
    Text,
    func,
    text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from chassis.values.movements import Balance, Movement, MovementKind
from loyalty.domain import Accounts, Burn, BurnPoints, BurnState, CreditPoints
from messages.loyalty import RestoreLoyaltyPoints

metadata = service_metadata()
accounts = Table(
    "accounts",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("granted", BigInteger, nullable=False, comment="all points ever granted, less those withdrawn by hand"),
    Column("balance", BigInteger, CheckConstraint("balance >= 0"), nullable=False),
    Column("version", BigInteger, nullable=False, server_default="0", comment="how many movements it has had"),
)
movements = Table(
    "account_movements",
    metadata,
    Column("made_by", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("customer_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("points", BigInteger, nullable=False, comment="added to what was granted; negative: withdrawn"),
    Column("reason", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("account_movements_opened", "customer_id", unique=True, postgresql_where=text("kind = 'OPENED'")),
)
burns = Table(
    "burns",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True, server_default="burn_loyalty_points"),
    Column("customer_id", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
credits_ = Table(
    "credits",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("points", BigInteger, nullable=False, comment="added to the balance, not to what was granted"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

BURN_COLUMNS = Columns.of(burns, without=["updated_at"])
BURNED = BURN_COLUMNS.without("state")
CREDITED = Columns.of(credits_, without=["created_at"])

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
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id, step FOR UPDATE
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
    UPDATE burns SET state = 'RESTORED', updated_at = now()
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(steps)s AS text[])) AS row (saga_id, step)
    WHERE burns.saga_id = row.saga_id AND burns.step = row.step
""")

OPEN_CREDITED = Statement("""
    WITH opened AS (
        INSERT INTO accounts (customer_id, granted, balance, version)
        SELECT customer_id, 0, 0, 1 FROM unnest(CAST(%(customer_ids)s AS text[])) AS row (customer_id)
        ORDER BY customer_id
        ON CONFLICT (customer_id) DO NOTHING
        RETURNING customer_id
    )
    INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
    SELECT 'restore_loyalty_points', '', customer_id, 'OPENED', 0,
           'Its points came back with a return, and it was not here.'
    FROM opened
""")

CREDIT = Statement(f"""
    INSERT INTO credits ({CREDITED.names})
    SELECT {CREDITED.values}
    FROM {CREDITED.rows}
""")

LOCK_KEY = text("""
    SELECT pg_advisory_xact_lock(hashtextextended(CAST(:made_by AS text) || ' ' || CAST(:key AS text), 0))
""")

MOVEMENTS_OF_KEY = text("""
    SELECT customer_id, kind, points, reason FROM account_movements WHERE made_by = :made_by AND idempotency_key = :key
""")

OPEN = text("""
    WITH opened AS (
        INSERT INTO accounts (customer_id, granted, balance, version)
        SELECT customer_id, points, points, 1
        FROM unnest(CAST(:customer_ids AS text[]), CAST(:points AS bigint[])) AS row (customer_id, points)
        ORDER BY customer_id
        ON CONFLICT (customer_id) DO NOTHING
        RETURNING customer_id, granted
    )
    INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
    SELECT CAST(:made_by AS text), '', customer_id, 'OPENED', granted, CAST(:reason AS text)
    FROM opened
    RETURNING customer_id
""")
"""An opening has the key that no request can have: it happens once for a customer, whichever caller repeats it."""

BALANCES = """
    SELECT customer_id, granted, balance,
           coalesce((SELECT points FROM account_movements AS movement
                     WHERE movement.customer_id = accounts.customer_id AND kind = 'OPENED'), 0) AS opened
    FROM accounts
"""

LOCK_BALANCES = text(f"""
    {BALANCES} WHERE customer_id = ANY(CAST(:customer_ids AS text[])) ORDER BY customer_id FOR UPDATE
""")

ADD_MOVEMENTS = text("""
    WITH row AS (
        SELECT * FROM unnest(CAST(:customer_ids AS text[]), CAST(:kinds AS text[]), CAST(:points AS bigint[]),
                             CAST(:reasons AS text[])) AS row (customer_id, kind, points, reason)
    ), recorded AS (
        INSERT INTO account_movements (made_by, idempotency_key, customer_id, kind, points, reason)
        SELECT CAST(:made_by AS text), CAST(:key AS text), customer_id, kind, points, reason FROM row
    )
    UPDATE accounts
    SET granted = granted + row.points, balance = balance + row.points, version = version + 1
    FROM row
    WHERE accounts.customer_id = row.customer_id
""")

FIND = text(f"{BALANCES} WHERE customer_id = :customer_id")


def lock_accounts(requests: Sequence[BurnPoints | CreditPoints | RestoreLoyaltyPoints], tx: Connection) -> None:
    """Lock the accounts of these customers: who burn points, have burned some, or get some back."""
    _open(tx, _credited([each for each in requests if isinstance(each, CreditPoints)]))
    saga_ids = [each.saga_id for each in requests if isinstance(each, RestoreLoyaltyPoints)]
    moving = [each for each in requests if not isinstance(each, RestoreLoyaltyPoints) and each.points]
    customer_ids = sorted({each.customer_id for each in moving})
    LOCK_ALL_ACCOUNTS.run(tx, {"customer_ids": customer_ids, "saga_ids": saga_ids})


def load_accounts(requests: Sequence[BurnPoints], tx: Connection) -> Accounts:
    """Lock the accounts of the customers who burn points; the others need none."""
    return Accounts(balances=_lock(tx, {request.customer_id for request in requests if request.points}))


def load_credited(requests: Sequence[CreditPoints], tx: Connection) -> Accounts:
    """Lock the accounts of the customers who get points back. A missing one is opened without any point."""
    customer_ids = _credited(requests)
    _open(tx, customer_ids)
    return Accounts(balances=_lock(tx, customer_ids))


def load_burns(commands: Sequence[RestoreLoyaltyPoints], tx: Connection) -> Accounts:
    """Lock the burns of these sagas and their customers' accounts."""
    rows = LOCK_BURNS.rows(tx, {"saga_ids": [command.saga_id for command in commands]})
    found = {
        (row.saga_id, row.step): Burn(
            saga_id=row.saga_id,
            step=row.step,
            customer_id=row.customer_id,
            points=row.points,
            state=BurnState(row.state),
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
        BURN.run(tx, BURNED.parameters(sorted(changed.made, key=lambda each: each.key)))
    if changed.restored:
        keys = sorted(each.key for each in changed.restored)
        RESTORE.run(tx, {"saga_ids": [saga_id for saga_id, _ in keys], "steps": [step for _, step in keys]})
    if changed.credited:
        CREDIT.run(tx, CREDITED.parameters(sorted(changed.credited, key=lambda each: each.key)))


def lock_key(tx: Connection, made_by: str, key: str) -> None:
    """Wait for the key's lock and hold it until the transaction ends."""
    tx.execute(LOCK_KEY, {"made_by": made_by, "key": key})


def load_movements(tx: Connection, made_by: str, key: str) -> dict[str, Movement]:
    """Return the movements by customer that were made under this key."""
    rows = tx.execute(MOVEMENTS_OF_KEY, {"made_by": made_by, "key": key})
    return {row.customer_id: Movement(kind=MovementKind(row.kind), units=row.points, reason=row.reason) for row in rows}


def open_balances(tx: Connection, made_by: str, units: Mapping[str, int], reason: str) -> None:
    """Open the account of each customer that is not known yet; a known one stays as it is."""
    customer_ids = sorted(units)
    points = [units[customer_id] for customer_id in customer_ids]
    tx.execute(OPEN, {"customer_ids": customer_ids, "points": points, "made_by": made_by, "reason": reason})


def lock_balances(tx: Connection, items: Iterable[str]) -> dict[str, Balance]:
    """Lock the accounts of these customers and return them by customer, without those that are not known."""
    return {row.customer_id: _balance(row) for row in tx.execute(LOCK_BALANCES, {"customer_ids": sorted(items)})}


def add_movements(tx: Connection, made_by: str, key: str, movements: Mapping[str, Movement]) -> None:
    """Record the movements and move the accounts by them. Its rows are locked already."""
    tx.execute(
        ADD_MOVEMENTS,
        {
            "made_by": made_by,
            "key": key,
            "customer_ids": list(movements),
            "kinds": [movement.kind.value for movement in movements.values()],
            "points": [movement.units for movement in movements.values()],
            "reasons": [movement.reason for movement in movements.values()],
        },
    )


def find(tx: Connection, customer_id: str) -> Balance | None:
    """Return the account of one customer, or None."""
    row = tx.execute(FIND, {"customer_id": customer_id}).one_or_none()
    return None if row is None else _balance(row)


def _balance(row: Row[Any]) -> Balance:
    return Balance(entered=row.granted, free=row.balance, opened=row.opened)


def _credited(requests: Iterable[CreditPoints]) -> set[str]:
    return {request.customer_id for request in requests if request.points}


def _open(tx: Connection, customer_ids: set[str]) -> None:
    """Open the accounts that are missing, before any is locked, as staff's openings do: nothing waits in a circle."""
    if customer_ids:
        OPEN_CREDITED.run(tx, {"customer_ids": sorted(customer_ids)})


def _lock(tx: Connection, customer_ids: Iterable[str]) -> dict[str, int]:
    rows = LOCK_ACCOUNTS.rows(tx, {"customer_ids": sorted(customer_ids)})
    return {row.customer_id: row.balance for row in rows}
