"""Accepts orders, one batch in one transaction: keys, orders and outbox rows commit together or not at all.

Concurrent single requests share a batch. A bulk request is a batch of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import Connection

from chassis.http.problem import FieldError, Problem, invalid, pointer
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.values.json_text import compact
from chassis.wire.codec import Codec
from chassis.wire.envelope import TRACEPARENT, NewId, child_traceparent, headers, new_id
from checkout import tables
from checkout.domain import (
    Cart,
    Checked,
    OrderState,
    PricedCart,
    Product,
    check,
    message_of,
    price_checked,
)
from checkout.fields import Refusal, ShipTo
from checkout.fingerprints import fingerprint, is_of
from checkout.points import PointsRate
from checkout.tables import Key, NewOrder, StoredResponse
from messages.checkout import Address, OrderLine, OrderSubmitted
from messages.contract import Message, name_of

TOPIC = "checkout.events"
SAGA_TYPE = "order"
SAGA_VERSION = 1
"""The version of the definition for new orders. Orders in flight keep their version."""
SOURCE = "checkout"
IN_PROGRESS_RETRY_S = 1
ACCEPTED = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A cart that a client submits as an order, under an idempotency key.

    ``fingerprint`` is of the cart as it was sent: an earlier release may have accepted it by other rules. With
    ``own_id`` only orders of that customer are accepted.
    """

    client_id: str
    idempotency_key: str
    checked: Checked
    traceparent: bytes | None
    fingerprint: bytes
    own_id: str | None

    @property
    def key(self) -> Key:
        """The key of the stored response."""
        return self.client_id, self.idempotency_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The response for an accepted order. With ``is_replay`` an earlier request had it accepted."""

    order_id: str
    status: int
    body: str
    is_replay: bool


Outcome: TypeAlias = Acceptance | Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is the same for every batch: how events are encoded, and what points pay by currency."""

    codec: Codec
    rates: Mapping[str, PointsRate]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The result of one batch: outcomes in the order of the submissions, and rows to publish after the commit."""

    outcomes: list[Outcome]
    rows: list[OutboxRow]
    responses: dict[Key, StoredResponse]


def submission(
    client_id: str, idempotency_key: str, cart: Cart, traceparent: bytes | None, *, own_id: str | None = None
) -> Submission:
    """Return the cart as a submission. Its fingerprint does not depend on spaces or the order of members.

    What needs no table is checked here, outside of the transaction that other orders share.
    """
    return Submission(
        client_id=client_id,
        idempotency_key=idempotency_key,
        checked=check(cart),
        traceparent=traceparent,
        fingerprint=fingerprint(cart),
        own_id=own_id,
    )


def accept(
    tx: Connection, submissions: Sequence[Submission], terms: Terms, *, new_order_id: NewId, now: datetime
) -> BatchResult:
    """Store the acceptable orders of a batch and return the outcome of each submission.

    1. Lock the keys with advisory locks, which end with the transaction, so a crash leaves no key locked. A key that
       another transaction holds is refused without waiting.
    2. Load the responses of the keys that were used before. This is a statement of its own: it must see what was
       committed before the locks were taken.
    3. Price the new carts with the catalogue.
    4. Store keys, orders and outbox rows.
    """
    first: dict[Key, Submission] = {}
    for each in submissions:
        first.setdefault(each.key, each)
    firsts = list(first.values())
    # 1. and 2.
    locked, stored, products = tables.lock_keys_and_load(
        tx,
        [key_lock(each.key) for each in firsts],
        [each.key for each in firsts],
        set().union(*[each.checked.skus for each in firsts]),
    )
    new = [each for index, each in enumerate(firsts) if index in locked and each.key not in stored]
    # 3.
    priced = [(each, _priced(each, products, terms.rates)) for each in new]
    # 4.
    orders = [_order(new_order_id(), each, result) for each, result in priced if isinstance(result, PricedCart)]
    rows = [_row(order, each, terms.codec, now) for order, each in orders]
    tables.insert_orders(tx, [order for order, _ in orders], now=now)
    outbox.save(tx, rows)

    known = stored | {each.key: _stored_response(order) for order, each in orders}
    fresh: dict[Key, Outcome] = {each.key: _acceptance(known[each.key], is_replay=False) for _, each in orders}
    fresh |= {each.key: result for each, result in priced if isinstance(result, Problem)}
    return BatchResult(
        outcomes=[_outcome(each, first, fresh, known) for each in submissions], rows=rows, responses=known
    )


def _priced(each: Submission, products: Mapping[str, Product], rates: Mapping[str, PointsRate]) -> PricedCart | Problem:
    if each.own_id not in {None, each.checked.cart.customer_id}:  # two subjects that look alike are two customers
        return subject_not_normal()
    result = price_checked(each.checked, products, rates)
    if isinstance(result, tuple):
        return refused(result, type="urn:baraza:problem:order-refused")
    return result


def _outcome(
    each: Submission,
    first: Mapping[Key, Submission],
    fresh: Mapping[Key, Outcome],
    known: Mapping[Key, StoredResponse],
) -> Outcome:
    if each is first[each.key] and each.key in fresh:
        return fresh[each.key]
    if each.key in known:
        return replayed(known[each.key], each)
    if each.key in fresh and each.fingerprint == first[each.key].fingerprint:
        return fresh[each.key]
    return in_progress()


def replayed(known: StoredResponse, again: Submission) -> Outcome:
    """Return the stored response, or a problem when the key was used for another body."""
    if not is_of(known.fingerprint, again.fingerprint):
        return other_body()
    return _acceptance(known, is_replay=True)


def cached(submissions: Sequence[Submission], known: Mapping[Key, StoredResponse]) -> list[Outcome | None]:
    """Return the outcome of each submission whose response is cached, None for the others."""
    return [replayed(known[each.key], each) if each.key in known else None for each in submissions]


def in_progress() -> Problem:
    """Return the problem of a key that another request is using."""
    return Problem(
        status=409,
        title="A request with this key is in progress",
        detail="Another request with this Idempotency-Key is being handled; send this one again after it.",
        type="urn:baraza:problem:idempotency-in-progress",
        headers={"Retry-After": str(IN_PROGRESS_RETRY_S)},
    )


def not_yours() -> Problem:
    """Return the problem of a customer's order for another customer."""
    return Problem(
        status=403,
        detail="A customer may order for itself only; send your own customer_id, which is the token's subject.",
    )


def subject_not_normal() -> Problem:
    """Return the problem of a customer whose own id would become another customer's."""
    return Problem(
        status=403,
        title="The token's subject is not a customer's id",
        detail=(
            "The token's subject has blanks around it or is not Unicode NFC, so it looks like another customer's id; "
            "use a token whose subject is in that form."
        ),
        type="urn:baraza:problem:subject-not-normal",
    )


def other_body() -> Problem:
    """Return the problem of a key that was used for another body."""
    return Problem(
        status=422,
        title="The key was used for another body",
        detail="This Idempotency-Key was used for another request; send a new one with a new key.",
        type="urn:baraza:problem:idempotency-mismatch",
    )


def refused(refusals: Sequence[Refusal], *, type: str) -> Problem:  # noqa: A002 - the RFC's own word
    """Return a 422 with every refusal of the domain, each with its pointer into the body."""
    errors = [FieldError(pointer=pointer(refusal.path), detail=refusal.detail) for refusal in refusals]
    return invalid(errors, type=type)


def outbox_row(event: Message, codec: Codec, request: bytes | None) -> OutboxRow:
    """Return the outbox row of a request's event, in the request's trace context or (None) in a new trace.

    The row has no partition: the producer chooses one by the key.
    """
    return OutboxRow(
        id=event.message_id,
        topic=TOPIC,
        saga_id=event.saga_id,
        type=name_of(type(event)),
        payload=codec.encode(TOPIC, event),
        headers=headers(event, source=SOURCE, traceparent=child_traceparent(request)),
        partition=None,
        cause=() if request is None else ((TRACEPARENT, request),),
    )


def wire_address(address: ShipTo) -> Address:
    """Return an address as messages have it."""
    return Address(
        name=address.name,
        street=address.street,
        city=address.city or "",
        postal_code=address.postal_code or "",
        country=address.country,
        street_2=address.street_2,
        region=address.region,
        phone=address.phone,
    )


def _order(order_id: str, accepted: Submission, priced: PricedCart) -> tuple[NewOrder, Submission]:
    body = {
        "order_id": order_id,
        "state": OrderState.PENDING.value,
        "message": message_of(OrderState.PENDING, is_cancellation_requested=False),
        "currency": priced.cart.currency,
        "total_minor": priced.total_minor,
        "payable_minor": priced.payable_minor,
    }
    order = NewOrder(
        order_id=order_id,
        client_id=accepted.client_id,
        key=accepted.idempotency_key,
        fingerprint=accepted.fingerprint,
        priced=priced,
        status=ACCEPTED,
        body=compact(body),
    )
    return order, accepted


def _row(order: NewOrder, accepted: Submission, codec: Codec, now: datetime) -> OutboxRow:
    cart = order.priced.cart
    event = OrderSubmitted(
        message_id=new_id(),
        saga_id=order.order_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=now,
        customer_id=cart.customer_id,
        currency=cart.currency,
        lines=tuple(
            OrderLine(sku=line.sku, quantity=line.quantity, unit_price_minor=line.unit_price_minor)
            for line in order.priced.lines
        ),
        points_to_burn=cart.points_to_burn,
        total_minor=order.priced.total_minor,
        payable_minor=order.priced.payable_minor,
        payment_token=cart.payment_method.token,
        ship_to=wire_address(cart.ship_to),
    )
    return outbox_row(event, codec, accepted.traceparent)


def _stored_response(order: NewOrder) -> StoredResponse:
    return StoredResponse(order_id=order.order_id, fingerprint=order.fingerprint, status=order.status, body=order.body)


def _acceptance(known: StoredResponse, *, is_replay: bool) -> Acceptance:
    return Acceptance(order_id=known.order_id, status=known.status, body=known.body, is_replay=is_replay)


def key_lock(key: Key) -> int:
    """Return the number of a key's advisory lock."""
    digest = hashlib.blake2b("\x00".join(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
