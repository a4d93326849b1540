"""The approvals of returns in a restored database: as they were published, whatever is known of other parcels then."""

from __future__ import annotations

import httpx
import pytest
from sqlalchemy import Connection

from chassis.process.published import published_of
from chassis.process.reconcile import Reconciled, Replay
from chassis.saga.handlers import Handlers
from checkout.handlers import HANDLERS
from messages.checkout import ReturnApproved, ReturnRequested
from support.checkouts import CheckoutStack
from support.executed import Executed
from support.returning import CODEC, approved, arrived, ordered, requested, service_of, trigger

ROW = "SELECT state, lines, refund_minor, points_minor, points, approved_at FROM returns WHERE return_id = :id"
FORGOTTEN = (
    "DELETE FROM effects WHERE saga_id = :id",
    "UPDATE returns SET state = 'REQUESTED', refund_minor = 0, points_minor = 0, points = 0, approved_at = NULL"
    " WHERE return_id = :id",
)
OUTBOX = "SELECT count(*) FROM outbox WHERE aggregateid = :id"
NOT_ARRIVED = """
    UPDATE returns SET state = 'APPROVED', received = NULL, refund_minor = :refund_minor, points_minor = :points_minor,
        points = :points WHERE return_id = :id
"""


@pytest.fixture
def checkout(checkout_stack: CheckoutStack) -> Executed:
    return Executed(name="checkout", engine=checkout_stack.engine, handlers=Handlers.of(HANDLERS))


def short_of_a_piece(stack: CheckoutStack, event: ReturnApproved) -> None:
    """Let two of the three pieces of this return arrive."""
    parcel = arrived(
        event, received=[{"sku": "sku-1", "good": 2, "damaged": 0}], refund_minor=102, points_minor=100, points=100
    )
    service_of(stack, event.saga_id).deliver(parcel)


def restore(checkout: Executed, first: ReturnApproved, second: ReturnApproved) -> None:
    """Let checkout's database know neither that the first return's parcel arrived, nor the second one's approval."""
    checkout.run_sql(
        NOT_ARRIVED, id=first.saga_id, refund_minor=first.refund_minor, points_minor=first.points_minor,
        points=first.points,
    )  # fmt: skip
    for statement in FORGOTTEN:
        checkout.run_sql(statement, id=second.saga_id)


def reconcile(checkout: Executed, event: ReturnRequested, published: ReturnApproved) -> Reconciled:
    read = published_of(checkout.handlers, [(1, published)], [(checkout.raw(event), event)])
    return Replay("checkout", checkout.handlers, checkout.engine, CODEC, read).run()


@pytest.mark.parametrize("sku", ["sku-1", "sku-2"], ids=["the missing piece", "another piece"])
def test_an_approval_is_restored_as_it_was_published_before_an_earlier_parcel_is_known_to_be_short(
    storefront: httpx.Client, checkout_stack: CheckoutStack, checkout: Executed, tx: Connection, sku: str
) -> None:
    order_id = ordered(storefront, tx, points_to_burn=200)
    first = approved(checkout_stack, tx, requested(storefront, order_id, ("sku-1", 3)))
    short_of_a_piece(checkout_stack, first)
    return_id = requested(storefront, order_id, (sku, 1))
    event = trigger(tx, return_id)
    second = approved(checkout_stack, tx, return_id)
    before = checkout.rows(ROW, id=return_id)
    assert before[0][2] == second.refund_minor

    restore(checkout, first, second)
    done = reconcile(checkout, event, second)
    assert (done.repeated, done.open) == (1, [])
    assert checkout.rows(ROW, id=return_id) == before
    assert checkout.rows(OUTBOX, id=return_id) == [(2,)], "the request and its approval; nothing is published again"
    assert reconcile(checkout, event, second).known == 1
