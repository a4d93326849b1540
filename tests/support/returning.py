"""Returns on checkout's real tables: requested by HTTP, decided by the saga's handlers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import Connection, text

from chassis.saga.handlers import Handlers
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from checkout.handlers import HANDLERS
from messages.checkout import ReturnApproved, ReturnRequested
from messages.shipping import ParcelArrived
from proof.schemas import LocalRegistry
from support.builders import a
from support.checkouts import CheckoutStack, cart, new_key, post

HOME = {"name": "A. Person", "street": "1 Road", "city": "Town", "postal_code": "12345", "country": "US"}
CODEC = Codec(LocalRegistry())
RETURN_ORDER = {"saga_type": "return_order", "saga_version": 1}


def body(*lines: tuple[str, int], **changes: Any) -> dict[str, Any]:
    return {
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines],
        "collect_from": HOME,
        "reason": "too small",
    } | changes


def ordered(client: httpx.Client, tx: Connection, *, days_ago: float = 0, **changes: Any) -> str:
    """Return the id of an order that was confirmed so many days ago: 3 of sku-1 at 101, 1 of sku-2 at 102."""
    wanted: dict[str, Any] = {"lines": [("sku-1", 3), ("sku-2", 1)], "points_to_burn": 5}
    sent = cart(**(wanted | changes))
    order_id: str = post(client, sent).json()["order_id"]
    query = text("UPDATE orders SET state = 'CONFIRMED', decided_at = :at WHERE order_id = :order_id")
    tx.execute(query, {"at": datetime.now(UTC) - timedelta(days=days_ago), "order_id": order_id})
    tx.commit()
    return order_id


def request(client: httpx.Client, order_id: str, sent: object, key: str | None = None) -> httpx.Response:
    return client.post(f"/v1/orders/{order_id}/returns", json=sent, headers={"Idempotency-Key": key or new_key()})


def requested(client: httpx.Client, order_id: str, *lines: tuple[str, int]) -> str:
    answer = request(client, order_id, body(*lines))
    assert answer.status_code == 202, answer.text
    return_id: str = answer.json()["return_id"]
    return return_id


def service_of(stack: CheckoutStack, return_id: str) -> ServiceUnderTest:
    """Return checkout's handlers for one return, on the tables of the process."""
    return ServiceUnderTest(
        name="checkout", engine=stack.engine, handlers=Handlers.of(HANDLERS), codec=CODEC, saga_id=return_id,
        now=datetime.now(UTC),
    )  # fmt: skip


def trigger(tx: Connection, return_id: str) -> ReturnRequested:
    """Return the event that the request has written into the outbox."""
    query = text("SELECT payload FROM outbox WHERE aggregateid = :id AND type = 'ReturnRequested'")
    found = CODEC.decode(bytes(tx.execute(query, {"id": return_id}).scalar_one()))
    tx.rollback()
    assert isinstance(found, ReturnRequested)
    return found


def approved(stack: CheckoutStack, tx: Connection, return_id: str) -> ReturnApproved:
    (answer,) = service_of(stack, return_id).deliver(trigger(tx, return_id))
    assert isinstance(answer, ReturnApproved), answer
    return answer


def arrived(event: ReturnApproved, **given: Any) -> ParcelArrived:
    lines = [{"sku": line.sku, "good": line.quantity, "damaged": 0} for line in event.lines]
    amounts = {"refund_minor": event.refund_minor, "points_minor": event.points_minor, "points": event.points}
    return a(
        ParcelArrived, saga_id=event.saga_id, order_id=event.order_id,
        **({"received": lines, "is_lost": False} | amounts | RETURN_ORDER | given),
    )  # fmt: skip
