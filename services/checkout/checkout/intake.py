"""Takes orders in, a batch a transaction: keys, orders and outbox rows commit together or not at all.

Single requests that meet share a commit; the bulk path uses the same code with a batch of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from chassis.http.problem import FieldError, Problem, invalid, pointer
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import TRACEPARENT, NewId, child_traceparent, headers, new_id
from messages.checkout import Address, OrderLine, OrderSubmitted
from messages.contract import Message, name_of
from pydantic import TypeAdapter
from sqlalchemy import Connection

from checkout import tables
from checkout.domain import Cart, OrderState, PricedCart, Refusal, message_of, price
from checkout.tables import Key, NewOrder, Remembered

TOPIC = "checkout.events"
SAGA_TYPE = "order"
SAGA_VERSION = 1
"""The definition that a new order follows; orders in flight keep theirs."""
SOURCE = "checkout"
IN_PROGRESS_RETRY_S = 1
ACCEPTED = 202

_CART: TypeAdapter[Cart] = TypeAdapter(Cart)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A cart that a client wants to have as an order, under its idempotency key."""

    client_id: str
    idempotency_key: str
    cart: Cart
    traceparent: bytes | None
    fingerprint: bytes

    @property
    def key(self) -> Key:
        """What the answer is remembered by."""
        return self.client_id, self.idempotency_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a taken order is answered with; ``is_replay`` says that it was taken earlier."""

    order_id: str
    status: int
    body: str
    is_replay: bool


Outcome: TypeAlias = Answer | Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one batch came to: an outcome a submission, in their order, and the rows to publish after the commit."""

    outcomes: list[Outcome]
    rows: list[OutboxRow]
    remembered: dict[Key, Remembered]


def submission(client_id: str, idempotency_key: str, cart: Cart, traceparent: bytes | None) -> Submission:
    """Return the cart as a submission. Its fingerprint does not depend on spaces or the order of members."""
    return Submission(
        client_id=client_id,
        idempotency_key=idempotency_key,
        cart=cart,
        traceparent=traceparent,
        fingerprint=hashlib.sha256(_CART.dump_json(cart)).digest(),
    )


def take_in(
    tx: Connection, submissions: Sequence[Submission], *, codec: Codec, new_order_id: NewId, now: datetime
) -> Taken:
    """Store what can be taken of a batch, and say of each what became of it.

    1. Claim the keys by advisory locks, which end with the transaction: a crash leaves no key stuck, and a key that
       another transaction is storing right now is refused, not waited for.
    2. Look up which of them were used before. (A statement of its own: it must see what committed before the locks.)
    3. Price the new carts by the catalogue.
    4. Store keys, orders and outbox rows.
    """
    first: dict[Key, Submission] = {}
    for each in submissions:
        first.setdefault(each.key, each)
    firsts = list(first.values())
    # 1. and 2.
    places, remembered, products = tables.look_up(
        tx,
        [_lock(each.key) for each in firsts],
        [each.key for each in firsts],
        {line.sku for each in firsts for line in each.cart.lines},
    )
    new = [each for place, each in enumerate(firsts) if place in places and each.key not in remembered]
    # 3.
    priced = [(each, price(each.cart, products)) for each in new]
    # 4.
    orders = [_order(new_order_id(), each, result) for each, result in priced if isinstance(result, PricedCart)]
    rows = [_row(order, each, codec, now) for order, each in orders]
    tables.insert_orders(tx, [order for order, _ in orders], now=now)
    outbox.save(tx, rows)

    known = remembered | {each.key: _remember(order) for order, each in orders}
    fresh: dict[Key, Outcome] = {each.key: _answer(known[each.key], is_replay=False) for _, each in orders}
    for each, result in priced:
        if isinstance(result, tuple):
            fresh[each.key] = refused(result, type="urn:baraza:problem:order-refused")
    return Taken(outcomes=[_outcome(each, first, fresh, known) for each in submissions], rows=rows, remembered=known)


def _outcome(
    each: Submission,
    first: Mapping[Key, Submission],
    fresh: Mapping[Key, Outcome],
    known: Mapping[Key, Remembered],
) -> Outcome:
    if each is first[each.key] and each.key in fresh:
        return fresh[each.key]
    if each.key in known:
        return replayed(known[each.key], each)
    if each.key in fresh and each.fingerprint == first[each.key].fingerprint:
        return fresh[each.key]
    return in_progress()


def replayed(known: Remembered, again: Submission) -> Outcome:
    """Return the remembered answer, or the problem where the key was used for another body."""
    if known.fingerprint != again.fingerprint:
        return other_body()
    return _answer(known, is_replay=True)


def cached(submissions: Sequence[Submission], known: Mapping[Key, Remembered]) -> list[Outcome | None]:
    """Return the outcomes that a cache of answers suffices for; None for the others."""
    return [replayed(known[each.key], each) if each.key in known else None for each in submissions]


def in_progress() -> Problem:
    """Return the refusal of a key that another request is using right now."""
    return Problem(
        status=409,
        title="A request with this key is in progress",
        detail="Another request with this Idempotency-Key is being handled; send this one again after it.",
        type="urn:baraza:problem:idempotency-in-progress",
        headers={"Retry-After": str(IN_PROGRESS_RETRY_S)},
    )


def other_body() -> Problem:
    """Return the refusal of a key that was used for another body."""
    return Problem(
        status=422,
        title="The key was used for another body",
        detail="This Idempotency-Key was used for another order; send a new order with a new key.",
        type="urn:baraza:problem:idempotency-mismatch",
    )


def refused(refusals: Sequence[Refusal], *, type: str) -> Problem:  # noqa: A002 - the RFC's own word
    """Return the 422 that gives every reason of the domain, with its place in the body."""
    errors = [FieldError(pointer=pointer(refusal.place), detail=refusal.detail) for refusal in refusals]
    return invalid(errors, type=type)


def outbox_row(event: Message, codec: Codec, request: bytes | None) -> OutboxRow:
    """Return the row of an event that a request led to, in the request's trace context or (None) in a new trace.

    Without a partition, the producer chooses it by the key.
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


def _order(order_id: str, taken: Submission, priced: PricedCart) -> tuple[NewOrder, Submission]:
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
        client_id=taken.client_id,
        key=taken.idempotency_key,
        fingerprint=taken.fingerprint,
        priced=priced,
        status=ACCEPTED,
        body=json.dumps(body, separators=(",", ":")),
    )
    return order, taken


def _row(order: NewOrder, taken: Submission, codec: Codec, now: datetime) -> OutboxRow:
    cart, ship_to = order.priced.cart, order.priced.cart.ship_to
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
        ship_to=Address(
            name=ship_to.name,
            street=ship_to.street,
            city=ship_to.city,
            postal_code=ship_to.postal_code,
            country=ship_to.country,
        ),
    )
    return outbox_row(event, codec, taken.traceparent)


def _remember(order: NewOrder) -> Remembered:
    return Remembered(order_id=order.order_id, fingerprint=order.fingerprint, status=order.status, body=order.body)


def _answer(known: Remembered, *, is_replay: bool) -> Answer:
    return Answer(order_id=known.order_id, status=known.status, body=known.body, is_replay=is_replay)


def _lock(key: Key) -> int:
    digest = hashlib.blake2b("\x00".join(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
