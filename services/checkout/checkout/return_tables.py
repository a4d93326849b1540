"""Every statement on checkout's returns. Those of the saga take a whole batch; orders are locked before returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.values.json_text import compact
from checkout import tables
from checkout.domain import OrderState, PricedLine
from checkout.returns import (
    Amounts,
    ApproveReturn,
    CountedReturn,
    OrderReturns,
    PlacedOrder,
    Withdrawals,
)
from checkout.tables import Key, StoredResponse, returns
from messages.checkout import WithdrawReturn
from messages.contract import Message
from messages.saga import ReturnCompleted, ReturnFailed
from messages.shipping import ParcelArrived

Event = TypeVar("Event", bound=Message)

ReturnRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``returns`` as :func:`load_return` returns it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReturn:
    """A return to store as REQUESTED, with its idempotency key and the response to store for it."""

    return_id: str
    order: PlacedOrder
    lines: tuple[PricedLine, ...]
    reason: str
    requested_at: datetime


PLACED_ORDER = Columns.of(tables.orders).only(
    "order_id", "customer_id", "state", "currency", "lines", "points_to_burn", "total_minor", "payable_minor",
    "decided_at",
)  # fmt: skip
RETURN_COLUMNS = Columns.of(
    returns,
    sources={
        "order_id": "order.order_id",
        "customer_id": "order.customer_id",
        "state": "state.value",
        "lines": lambda decided: _lines(decided.lines),
        "currency": "order.currency",
        "refund_minor": "amounts.refund_minor",
        "points_minor": "amounts.points_minor",
        "points": "amounts.points",
    },
)
DECIDED = RETURN_COLUMNS.without(
    "received", "cancellation_requested_at", "decided_at", "failure_cause", "failure_reason"
)
ARRIVED = Columns.of(
    returns, sources={"return_id": "saga_id", "received": lambda event: _received(event)}
).only("return_id", "received", "refund_minor", "points_minor", "points")  # fmt: skip
COMPLETED = Columns.of(returns, sources={"return_id": "saga_id", "decided_at": "occurred_at"}).only(
    "return_id", "decided_at"
)
FAILED = Columns.of(
    returns,
    sources={
        "return_id": "saga_id", "decided_at": "occurred_at", "failure_cause": "cause", "failure_reason": "reason",
    },
).only("return_id", "decided_at", "failure_cause", "failure_reason")  # fmt: skip

LOCK_ORDERS = Statement(f"""
    SELECT {PLACED_ORDER.names} FROM orders
    WHERE order_id = ANY(CAST(%(order_ids)s AS text[])) ORDER BY order_id FOR UPDATE
""")

COUNTED_RETURNS = Statement("""
    SELECT order_id, lines, received, refund_minor, points_minor, points FROM returns
    WHERE order_id = ANY(CAST(%(order_ids)s AS text[])) AND state IN ('APPROVED', 'ARRIVED', 'COMPLETED')
    ORDER BY return_id
""")

DECIDE_RETURNS = Statement(f"""
    INSERT INTO returns ({DECIDED.names})
    SELECT {DECIDED.values}
    FROM {DECIDED.rows}
    ON CONFLICT (return_id) DO UPDATE
    SET {DECIDED.without("order_id", "customer_id", "requested_at", "reason", "currency").excluded_assignments}
    WHERE returns.state = 'REQUESTED'
""")
"""A database that was restored to before the request lacks its row."""

WITHDRAW = Statement("""
    UPDATE returns SET state = 'WITHDRAWN', refund_minor = 0, points_minor = 0, points = 0
    FROM unnest(CAST(%(return_ids)s AS text[])) AS row (return_id)
    WHERE returns.return_id = row.return_id AND returns.state = 'APPROVED'
""")

ARRIVE = Statement(f"""
    UPDATE returns
    SET state = CASE returns.state WHEN 'COMPLETED' THEN 'COMPLETED' ELSE 'ARRIVED' END, {ARRIVED.assignments}
    FROM {ARRIVED.rows}
    WHERE returns.return_id = row.return_id AND returns.state IN ('REQUESTED', 'APPROVED', 'ARRIVED', 'COMPLETED')
""")
"""The end may be read before the arrival: they come on two topics."""

COMPLETE = Statement(f"""
    UPDATE returns SET state = 'COMPLETED', {COMPLETED.assignments}
    FROM {COMPLETED.rows}
    WHERE returns.return_id = row.return_id AND returns.decided_at IS NULL
""")

FAIL = Statement(f"""
    UPDATE returns SET state = 'FAILED', refund_minor = 0, points_minor = 0, points = 0, {FAILED.assignments}
    FROM {FAILED.rows}
    WHERE returns.return_id = row.return_id AND returns.decided_at IS NULL AND returns.state <> 'ARRIVED'
""")
"""Nothing takes back that a parcel arrived."""

ORDER = text(f"SELECT {PLACED_ORDER.names} FROM orders WHERE order_id = :order_id")

COUNTED_OF_ORDER = text("""
    SELECT order_id, lines, received, refund_minor, points_minor, points FROM returns
    WHERE order_id = :order_id AND state IN ('APPROVED', 'ARRIVED', 'COMPLETED') ORDER BY return_id
""")

INSERT_REQUESTED = text("""
    WITH claimed AS (
        INSERT INTO idempotency_keys (client_id, key, fingerprint, order_id, status, body, created_at)
        VALUES (:client_id, :key, :fingerprint, :return_id, :status, :body, :requested_at)
    )
    INSERT INTO returns (return_id, order_id, customer_id, lines, currency, reason, requested_at,
                         state, refund_minor, points_minor, points)
    VALUES (:return_id, :order_id, :customer_id, CAST(:lines AS jsonb), :currency, :reason, :requested_at,
            'REQUESTED', 0, 0, 0)
""")
"""A key names what was made under it: an order, or a return."""

RETURN = text(f"SELECT {RETURN_COLUMNS.names} FROM returns WHERE return_id = :return_id")

RETURNS_OF_ORDER = text(f"SELECT {RETURN_COLUMNS.names} FROM returns WHERE order_id = :order_id ORDER BY return_id")

REQUEST_CANCELLATION = text("""
    UPDATE returns SET cancellation_requested_at = :now
    WHERE return_id = :return_id AND state IN ('REQUESTED', 'APPROVED') AND cancellation_requested_at IS NULL
""")


def load_orders(requests: Sequence[ApproveReturn], tx: Connection) -> OrderReturns:
    """Lock the orders of these returns, and load what counts as returned of them.

    The second statement sees what was committed before the locks were taken.
    """
    order_ids = sorted({request.order_id for request in requests})
    locked = LOCK_ORDERS.submit(tx, {"order_ids": order_ids})
    found = COUNTED_RETURNS.submit(tx, {"order_ids": order_ids})
    rows = OrderReturns(orders={row.order_id: _placed(row) for row in locked.rows()})
    for row in found.rows():
        rows.counted.setdefault(row.order_id, []).append(_counted(row))
    return rows


def save_decided(rows: OrderReturns, tx: Connection) -> None:
    """Save what was approved and refused."""
    if rows.decided:
        DECIDE_RETURNS.run(tx, DECIDED.parameters(sorted(rows.decided, key=lambda each: each.return_id)))


def load_withdrawals(_commands: Sequence[WithdrawReturn], _tx: Connection) -> Withdrawals:
    """Return no withdrawals: a batch adds its own."""
    return Withdrawals()


def save_withdrawals(rows: Withdrawals, tx: Connection) -> None:
    """Withdraw the approvals."""
    if rows.return_ids:
        WITHDRAW.run(tx, {"return_ids": sorted(rows.return_ids)})


def on_parcel_arrived(events: Sequence[ParcelArrived], tx: Connection) -> None:
    """Keep what arrived of these returns and what is refunded for it, so that missing pieces may be returned again."""
    ARRIVE.run(tx, ARRIVED.parameters(_last_of_each(events)))


def on_return_completed(events: Sequence[ReturnCompleted], tx: Connection) -> None:
    """Complete these returns."""
    COMPLETE.run(tx, COMPLETED.parameters(_last_of_each(events)))


def on_return_failed(events: Sequence[ReturnFailed], tx: Connection) -> None:
    """Record why these returns failed. Their pieces may be returned again."""
    FAIL.run(tx, FAILED.parameters(_last_of_each(events)))


def load_placed_order(tx: Connection, order_id: str) -> tuple[PlacedOrder, list[CountedReturn]] | None:
    """Return an order and what counts as returned of it, or None."""
    row = tx.execute(ORDER, {"order_id": order_id}).one_or_none()
    if row is None:
        return None
    return _placed(row), [_counted(each) for each in tx.execute(COUNTED_OF_ORDER, {"order_id": order_id})]


def insert_requested(tx: Connection, new: NewReturn, key: Key, response: StoredResponse) -> None:
    """Store a return as REQUESTED together with its key, in one statement."""
    client_id, idempotency_key = key
    row = {
        "return_id": new.return_id,
        "order_id": new.order.order_id,
        "customer_id": new.order.customer_id,
        "lines": _lines(new.lines),
        "currency": new.order.currency,
        "reason": new.reason,
        "requested_at": new.requested_at,
        "client_id": client_id,
        "key": idempotency_key,
        "fingerprint": response.fingerprint,
        "status": response.status,
        "body": response.body,
    }
    tx.execute(INSERT_REQUESTED, row)


def load_return(tx: Connection, return_id: str) -> ReturnRow | None:
    """Return one return's row, or None."""
    return tx.execute(RETURN, {"return_id": return_id}).one_or_none()


def load_returns(tx: Connection, order_id: str) -> Sequence[ReturnRow]:
    """Return the rows of an order's returns, the first one first."""
    return tx.execute(RETURNS_OF_ORDER, {"order_id": order_id}).all()


def request_cancellation(tx: Connection, return_id: str, *, now: datetime) -> bool:
    """Record a cancellation request. Return False when it is too late or the request is already recorded."""
    return tx.execute(REQUEST_CANCELLATION, {"return_id": return_id, "now": now}).rowcount == 1


def _last_of_each(events: Sequence[Event]) -> list[Event]:
    """Return one event of each saga, in the order in which rows are locked everywhere."""
    return [event for _, event in sorted({event.saga_id: event for event in events}.items())]


def _placed(row: Any) -> PlacedOrder:
    return PlacedOrder(
        order_id=row.order_id,
        customer_id=row.customer_id,
        state=OrderState(row.state),
        currency=row.currency,
        lines=tuple(PricedLine(**line) for line in row.lines),
        points_to_burn=row.points_to_burn,
        total_minor=row.total_minor,
        payable_minor=row.payable_minor,
        decided_at=row.decided_at,
    )


def _counted(row: Any) -> CountedReturn:
    received = None if row.received is None else {each["sku"]: each["good"] + each["damaged"] for each in row.received}
    return CountedReturn(
        lines=tuple(PricedLine(**line) for line in row.lines),
        received=received,
        amounts=Amounts(refund_minor=row.refund_minor, points_minor=row.points_minor, points=row.points),
    )


def _lines(lines: Sequence[PricedLine]) -> str:
    return compact([asdict(line) for line in lines])


def _received(event: ParcelArrived) -> str | None:
    return None if event.is_lost else compact([asdict(line) for line in event.received])
