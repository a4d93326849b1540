"""What checkout counts as overdue: what it has started sagas for that have not ended, whatever they are."""

from __future__ import annotations

from typing import Any

import httpx
from sqlalchemy import Connection, text

from checkout.main import OVERDUE
from support.checkouts import cart, post
from support.returning import ordered, requested

AGED_ORDER = text("UPDATE orders SET submitted_at = now() - interval '11 minutes' WHERE order_id = :id")
AGED_RETURN = text("UPDATE returns SET requested_at = now() - interval '11 minutes' WHERE return_id = :id")


def counted(tx: Connection) -> dict[Any, Any]:
    found: dict[Any, Any] = dict(OVERDUE.query(tx))  # type: ignore[arg-type]
    tx.rollback()
    return found


def test_orders_and_returns_are_counted_from_ten_minutes_until_they_are_decided(
    storefront: httpx.Client, tx: Connection
) -> None:
    before = counted(tx)
    order_id = post(storefront, cart()).json()["order_id"]
    return_id = requested(storefront, ordered(storefront, tx), ("sku-1", 1))
    assert counted(tx) == before, "they are young"
    tx.execute(AGED_ORDER, {"id": order_id})
    tx.execute(AGED_RETURN, {"id": return_id})
    tx.commit()
    assert counted(tx) == {saga: number + 1 for saga, number in before.items()}
    tx.execute(text("UPDATE orders SET state = 'CONFIRMED' WHERE order_id = :id"), {"id": order_id})
    tx.execute(text("UPDATE returns SET decided_at = now() WHERE return_id = :id"), {"id": return_id})
    tx.commit()
    assert counted(tx) == before
