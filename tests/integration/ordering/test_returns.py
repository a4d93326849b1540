"""Returns on real tables: what a client may request, what the saga decides of it, and every order of its messages."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from threading import Barrier, Thread
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, text

from chassis.testing.service import ServiceUnderTest, types
from messages.checkout import ReturnApproved, ReturnRefused, ReturnRequested, ReturnWithdrawn, WithdrawReturn
from messages.contract import Message
from messages.saga import FenceSaga, ReturnCompleted, ReturnFailed
from support.builders import a
from support.checkouts import Api, CheckoutStack, cart, new_key, post, token
from support.returning import (
    HOME,
    RETURN_ORDER,
    approved,
    arrived,
    body,
    ordered,
    request,
    requested,
    service_of,
    trigger,
)


def withdrawal(return_id: str) -> WithdrawReturn:
    return a(WithdrawReturn, saga_id=return_id, step="approve_return", **RETURN_ORDER)


def failed(return_id: str) -> ReturnFailed:
    return a(ReturnFailed, saga_id=return_id, cause="CANCELLED", reason="customer_request", **RETURN_ORDER)


def completed(return_id: str) -> ReturnCompleted:
    return a(ReturnCompleted, saga_id=return_id, **RETURN_ORDER)


def test_a_return_is_stored_with_its_event_in_one_transaction(storefront: httpx.Client, tx: Connection) -> None:
    order_id = ordered(storefront, tx)
    answer = request(storefront, order_id, body(("sku-1", 2)))
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert (found["order_id"], found["state"], found["message"]) == (order_id, "REQUESTED", "return received, checking")
    assert answer.headers["location"] == f"/v1/returns/{found['return_id']}"
    query = text("SELECT * FROM outbox WHERE aggregateid = :id")
    row = tx.execute(query, {"id": found["return_id"]}).one()
    assert (row.aggregatetype, row.type, row.partition) == ("checkout.events", "ReturnRequested", None)
    written = text("SELECT xmin FROM returns WHERE return_id = :id")
    transaction = tx.execute(written, {"id": found["return_id"]}).scalar_one()
    assert tx.execute(text("SELECT xmin FROM outbox WHERE id = :id"), {"id": row.id}).scalar_one() == transaction
    event = trigger(tx, found["return_id"])
    assert (event.order_id, event.customer_id, event.reason) == (order_id, "customer-1", "too small")
    assert [(line.sku, line.quantity, line.unit_price_minor) for line in event.lines] == [("sku-1", 2, 101)]
    stored = storefront.get(answer.headers["location"]).json()
    assert stored["lines"] == [{"sku": "sku-1", "quantity": 2, "unit_price_minor": 101}]
    assert (stored["state"], stored["received"], stored["refund_minor"]) == ("REQUESTED", None, 0)
    assert storefront.get(f"/v1/orders/{order_id}/returns").json() == {"returns": [stored]}


def test_the_same_key_and_body_return_the_same_response(storefront: httpx.Client, tx: Connection) -> None:
    order_id, key = ordered(storefront, tx), new_key()
    first, again = (request(storefront, order_id, body(("sku-1", 3)), key) for _ in range(2))
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert again.headers["location"] == first.headers["location"]
    assert len(storefront.get(f"/v1/orders/{order_id}/returns").json()["returns"]) == 1
    others = (
        request(storefront, order_id, body(("sku-1", 2)), key),
        request(storefront, ordered(storefront, tx), body(("sku-1", 3)), key),
        post(storefront, cart(), key),
    )
    for other in others:
        assert (other.status_code, other.json()["type"]) == (422, "urn:baraza:problem:idempotency-mismatch")


def test_a_replay_is_answered_also_when_the_pieces_are_returned_meanwhile(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id, key = ordered(storefront, tx), new_key()
    first = request(storefront, order_id, body(("sku-2", 1)), key)
    approved(checkout_stack, tx, first.json()["return_id"])
    assert request(storefront, order_id, body(("sku-2", 1)), key).content == first.content


def test_concurrent_requests_with_one_key_make_one_return(api: Api, storefront: httpx.Client, tx: Connection) -> None:
    order_id, key = ordered(storefront, tx), new_key()

    async def all_at_once() -> list[httpx.Response]:
        headers = {"Authorization": f"Bearer {token('storefront-1', ['storefront'])}", "Idempotency-Key": key}
        async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=10) as client:
            path = f"/v1/orders/{order_id}/returns"
            return await asyncio.gather(*(client.post(path, json=body(("sku-1", 1))) for _ in range(20)))

    answers = asyncio.run(all_at_once())
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len(storefront.get(f"/v1/orders/{order_id}/returns").json()["returns"]) == 1


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"lines": []}, "#/lines"),
        ({"lines": [{"sku": "sku-1", "quantity": 0}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": "1"}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": 4}]}, "#/lines/0/quantity"),
        ({"lines": [{"sku": "sku-1", "quantity": 1}] * 2}, "#/lines/1/sku"),
        ({"lines": [{"sku": "sku-1", "quantity": 1}, {"sku": "sku-3", "quantity": 1}]}, "#/lines/1/sku"),
        ({"collect_from": HOME | {"country": "ZZ"}}, "#/collect_from/country"),
        ({"collect_from": HOME | {"name": "\u3164"}}, "#/collect_from/name"),
        ({"collect_from": {"name": "A"}}, "#/collect_from/street"),
        ({"reason": "4111-1111-1111-1111"}, "#/reason"),
        ({"surprise": 1}, "#/surprise"),
    ],
)
def test_an_invalid_return_is_refused_with_a_pointer_to_the_field(
    storefront: httpx.Client, tx: Connection, changes: dict[str, Any], pointer: str
) -> None:
    order_id, key = ordered(storefront, tx), new_key()
    refused = request(storefront, order_id, body(("sku-1", 1)) | changes, key)
    assert refused.status_code == 422
    assert pointer in [error["pointer"] for error in refused.json()["errors"]]
    assert request(storefront, order_id, body(("sku-1", 1)), key).status_code == 202, "the key is unused"


def test_only_a_confirmed_order_is_returned_and_only_for_thirty_days(storefront: httpx.Client, tx: Connection) -> None:
    pending = post(storefront, cart()).json()["order_id"]
    late = ordered(storefront, tx, days_ago=30.01)
    for order_id, reason in ((pending, "not_confirmed"), (late, "outside_window")):
        refused = request(storefront, order_id, body(("sku-1", 1)))
        assert (refused.status_code, refused.json()["reason"]) == (422, reason)
        assert refused.json()["type"] == "urn:baraza:problem:order-not-returnable"
    in_time = ordered(storefront, tx, days_ago=29.99)
    assert request(storefront, in_time, body(("sku-1", 1))).status_code == 202


def test_a_customer_returns_and_sees_its_own_orders_only(api: Api, storefront: httpx.Client, tx: Connection) -> None:
    order_id = ordered(storefront, tx, customer="customer-7")
    with api.client("customer-7", ["customer"]) as customer, api.client("customer-8", ["customer"]) as stranger:
        returns = f"/v1/orders/{order_id}/returns"
        assert request(stranger, order_id, body(("sku-1", 1))).status_code == 404
        assert stranger.get(returns).status_code == 404
        location = request(customer, order_id, body(("sku-1", 1))).headers["location"]
        assert customer.get(location.lower()).json()["customer_id"] == "customer-7"
        assert customer.get(returns).status_code == 200
        assert [stranger.get(location).status_code, stranger.post(f"{location}/cancel").status_code] == [404, 404]
    with api.client("support-1", ["support"]) as support:
        assert support.get(location).status_code == 200
        assert request(support, order_id, body(("sku-1", 1))).status_code == 403


def test_a_return_can_be_cancelled_once_until_its_parcel_arrives(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id = ordered(storefront, tx)
    return_id = requested(storefront, order_id, ("sku-1", 1))
    approval = approved(checkout_stack, tx, return_id)
    for _ in range(2):
        answer = storefront.post(f"/v1/returns/{return_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "APPROVED")
        assert answer.json()["message"] == "return received, cancellation requested"
    events = text("SELECT count(*) FROM outbox WHERE aggregateid = :id AND type = 'ReturnCancellationRequested'")
    assert tx.execute(events, {"id": return_id}).scalar_one() == 1
    service_of(checkout_stack, return_id).deliver(arrived(approval))
    assert storefront.post(f"/v1/returns/{return_id}/cancel").status_code == 409


def test_an_approval_says_what_comes_back_and_a_redelivery_changes_nothing(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id = ordered(storefront, tx)
    return_id = requested(storefront, order_id, ("sku-1", 3), ("sku-2", 1))
    service, event = service_of(checkout_stack, return_id), trigger(tx, return_id)
    (answer,) = service.deliver(event)
    assert isinstance(answer, ReturnApproved)
    assert (answer.refund_minor, answer.points_minor, answer.points) == (400, 5, 5)
    assert service.deliver(event) == []
    found = storefront.get(f"/v1/returns/{return_id}").json()
    assert (found["state"], found["refund_minor"], found["points_minor"], found["points"]) == ("APPROVED", 400, 5, 5)
    assert found["approved_at"] is not None
    refused = request(storefront, order_id, body(("sku-2", 1)))
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:baraza:problem:return-refused")


def test_of_two_returns_of_the_same_pieces_at_once_one_is_approved(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id = ordered(storefront, tx)
    return_ids = [requested(storefront, order_id, ("sku-1", 2)) for _ in range(2)]
    deliveries = [(service_of(checkout_stack, each), trigger(tx, each)) for each in return_ids]
    at_once, answers = Barrier(2), list[Message]()

    def decide(service: ServiceUnderTest, event: ReturnRequested) -> None:
        at_once.wait()
        answers.extend(service.deliver(event))

    threads = [Thread(target=decide, args=each) for each in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(types(answers)) == ["ReturnApproved", "ReturnRefused"]
    (refusal,) = (each for each in answers if isinstance(each, ReturnRefused))
    assert refusal.reason == "already_returned"
    states = {each["state"] for each in storefront.get(f"/v1/orders/{order_id}/returns").json()["returns"]}
    assert states == {"APPROVED", "REFUSED"}
    service_of(checkout_stack, refusal.saga_id).deliver(
        a(ReturnFailed, saga_id=refusal.saga_id, cause="REJECTED", reason="already_returned", **RETURN_ORDER)
    )
    found = storefront.get(f"/v1/returns/{refusal.saga_id}").json()
    assert (found["state"], found["failure_cause"], found["failure_reason"]) == (
        "FAILED",
        "REJECTED",
        "already_returned",
    )


def test_a_withdrawn_return_may_be_requested_again(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id = ordered(storefront, tx)
    first = requested(storefront, order_id, ("sku-1", 3))
    assert approved(checkout_stack, tx, first).refund_minor == 299
    service, command = service_of(checkout_stack, first), withdrawal(first)
    (reply,), (again,) = service.deliver(command), service.deliver(command)
    assert isinstance(reply, ReturnWithdrawn)
    assert reply.undone
    assert again.message_id == reply.message_id
    assert storefront.get(f"/v1/returns/{first}").json()["state"] == "WITHDRAWN"
    assert approved(checkout_stack, tx, requested(storefront, order_id, ("sku-1", 3))).refund_minor == 299


def test_a_withdrawal_that_comes_before_its_request_keeps_it_from_being_approved(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    return_id = requested(storefront, ordered(storefront, tx), ("sku-1", 1))
    service = service_of(checkout_stack, return_id)
    (reply,) = service.deliver(withdrawal(return_id))
    assert isinstance(reply, ReturnWithdrawn)
    assert not reply.undone
    assert service.deliver(trigger(tx, return_id)) == []
    service.deliver(failed(return_id))
    found = storefront.get(f"/v1/returns/{return_id}").json()
    assert (found["state"], found["failure_reason"]) == ("FAILED", "customer_request")


@pytest.mark.parametrize("order", list(itertools.permutations(["request", "fence", "withdraw", "fail"])), ids="-".join)
def test_whatever_the_order_of_a_cancelled_returns_messages_its_pieces_are_free_in_the_end(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection, order: Sequence[str]
) -> None:
    order_id = ordered(storefront, tx)
    return_id = requested(storefront, order_id, ("sku-1", 3))
    service = service_of(checkout_stack, return_id)
    messages: dict[str, Message] = {
        "request": trigger(tx, return_id),
        "fence": a(FenceSaga, saga_id=return_id, steps=["approve_return"], **RETURN_ORDER),
        "withdraw": withdrawal(return_id),
        "fail": failed(return_id),
    }
    for name in (*order, *order):
        service.deliver(messages[name])
    found = storefront.get(f"/v1/returns/{return_id}").json()
    assert (found["state"], found["refund_minor"]) == ("FAILED", 0)
    assert service.state_of("approve_return").partition(" ")[0] in ("UNDONE", "FENCED")
    assert approved(checkout_stack, tx, requested(storefront, order_id, ("sku-1", 3))).refund_minor == 299


def test_missing_pieces_may_be_returned_again_and_all_pieces_give_back_exactly_what_was_paid(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id = ordered(storefront, tx)
    first = requested(storefront, order_id, ("sku-1", 3))
    approval = approved(checkout_stack, tx, first)
    # One of three arrived, damaged: shipping counts a third of what was approved.
    short = arrived(
        approval, received=[{"sku": "sku-1", "good": 0, "damaged": 1}], refund_minor=approval.refund_minor // 3,
        points_minor=approval.points_minor // 3, points=approval.points // 3,
    )  # fmt: skip
    for _ in range(2):
        service_of(checkout_stack, first).deliver(short)
    found = storefront.get(f"/v1/returns/{first}").json()
    assert (found["state"], found["refund_minor"]) == ("ARRIVED", 99)
    assert found["received"] == [{"sku": "sku-1", "good": 0, "damaged": 1}]
    second = approved(checkout_stack, tx, requested(storefront, order_id, ("sku-1", 2)))
    third = approved(checkout_stack, tx, requested(storefront, order_id, ("sku-2", 1)))
    given_back = [
        sum(each[name] for each in storefront.get(f"/v1/orders/{order_id}/returns").json()["returns"])
        for name in ("refund_minor", "points_minor", "points")
    ]
    assert given_back == [400, 5, 5]
    assert 99 + second.refund_minor + third.refund_minor == 400


def test_a_lost_parcel_counts_as_returned(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id = ordered(storefront, tx)
    approval = approved(checkout_stack, tx, requested(storefront, order_id, ("sku-1", 3)))
    service_of(checkout_stack, approval.saga_id).deliver(arrived(approval, is_lost=True, received=[]))
    found = storefront.get(f"/v1/returns/{approval.saga_id}").json()
    assert (found["state"], found["received"], found["refund_minor"]) == ("ARRIVED", None, 299)
    assert request(storefront, order_id, body(("sku-1", 1))).status_code == 422


@pytest.mark.parametrize("order", list(itertools.permutations(["arrived", "completed", "failed late"])), ids="-".join)
def test_whatever_the_order_of_a_returns_last_messages_it_is_completed_with_what_arrived(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection, order: Sequence[str]
) -> None:
    approval = approved(checkout_stack, tx, requested(storefront, ordered(storefront, tx), ("sku-1", 2)))
    service = service_of(checkout_stack, approval.saga_id)
    messages: dict[str, Message] = {"arrived": arrived(approval), "completed": completed(approval.saga_id)}
    for name in (*order, *order):
        if name in messages:
            service.deliver(messages[name])
        elif name == "failed late" and "arrived" in order[: order.index(name)]:
            service.deliver(failed(approval.saga_id))
    found = storefront.get(f"/v1/returns/{approval.saga_id}").json()
    assert (found["state"], found["refund_minor"]) == ("COMPLETED", approval.refund_minor)
    assert found["received"] == [{"sku": "sku-1", "good": 2, "damaged": 0}]
    assert found["decided_at"] is not None


def test_an_approval_is_made_also_where_a_restored_database_lacks_the_request(
    storefront: httpx.Client, checkout_stack: CheckoutStack, tx: Connection
) -> None:
    order_id = ordered(storefront, tx)
    return_id = requested(storefront, order_id, ("sku-1", 2))
    event = trigger(tx, return_id)
    tx.execute(text("DELETE FROM returns WHERE return_id = :id"), {"id": return_id})
    tx.commit()
    service_of(checkout_stack, return_id).deliver(event)
    found = storefront.get(f"/v1/returns/{return_id}").json()
    assert (found["state"], found["order_id"], found["reason"]) == ("APPROVED", order_id, "too small")
