"""What happened to a merchant's payment, who gets it, and the body that is sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeAlias

from chassis.saga.triggers import StepRequest
from chassis.values.json_text import compact
from chassis.wire.envelope import derived_id
from messages.contract import Envelope

NOTIFY_MERCHANT: Final = "notify_merchant"
CANCELLED: Final = "CANCELLED"
"""The cause of a saga's failure that a person wanted."""
Value: TypeAlias = str | int | bool | None
Owner: TypeAlias = tuple[str, bool]
"""A merchant, and whether it is about its live mode."""


class EventType(StrEnum):
    """What merchants are notified of."""

    PAYMENT_AUTHORIZED = "payment.authorized"
    PAYMENT_CAPTURED = "payment.captured"
    PAYMENT_FAILED = "payment.failed"
    PAYMENT_CANCELED = "payment.canceled"
    PAYMENT_VOIDED = "payment.voided"
    PAYMENT_VOID_FAILED = "payment.void_failed"
    PAYMENT_CAPTURE_FAILED = "payment.capture_failed"
    PAYMENT_AUTHORIZATION_EXPIRED = "payment.authorization_expired"
    REFUND_SUCCEEDED = "refund.succeeded"
    REFUND_FAILED = "refund.failed"
    DISPUTE_CREATED = "dispute.created"
    DISPUTE_WON = "dispute.won"
    DISPUTE_LOST = "dispute.lost"
    ENDPOINT_DISABLED = "endpoint.disabled"
    PING = "ping"


NEVER_SUBSCRIBED: Final = frozenset({EventType.PING})
"""A test event goes to the one endpoint that is tested."""


class Cause(StrEnum):
    """Why a delivery exists."""

    EVENT = "EVENT"
    REPLAY = "REPLAY"
    PING = "PING"


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantNotice:
    """One event for a merchant. ``event_id`` is always the same one for it, and has no full stop."""

    event_id: str
    type: EventType
    merchant_id: str
    is_live: bool
    occurred_at: datetime
    data: Mapping[str, Value]
    payment_id: int | None = None
    saga_id: str | None = None

    @property
    def owner(self) -> Owner:
        """Whose event it is."""
        return self.merchant_id, self.is_live

    @property
    def body(self) -> str:
        """The JSON that is sent and signed; it is stored, so that every attempt sends the same bytes."""
        stamp = self.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return compact({"type": self.type.value, "timestamp": stamp, "data": dict(self.data)})


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyMerchant(StepRequest):
    """Store what a merchant is sent about a saga."""

    notice: MerchantNotice


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """An enabled endpoint, and the types that it gets; none listed: all of them."""

    endpoint_id: str
    types: tuple[str, ...] = ()

    def gets(self, event_type: EventType) -> bool:
        """Return whether an event of this type goes to the endpoint."""
        if event_type in NEVER_SUBSCRIBED:
            return False
        return not self.types or event_type in self.types


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event to one endpoint."""

    delivery_id: str
    event_id: str
    endpoint_id: str
    merchant_id: str
    is_live: bool
    cause: Cause


@dataclass(slots=True, kw_only=True)
class Planned:
    """The subscriptions of a batch's merchants, and what is stored of the batch: each notice and its deliveries."""

    subscriptions: Mapping[Owner, Sequence[Subscription]]
    notices: list[MerchantNotice] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)


def event_id_of(saga_id: str, event_type: EventType) -> str:
    """Return the id of what a saga notifies its merchant of: each saga does so at most once with each type."""
    return derived_id("merchant event", saga_id, event_type.value)


def plan(notice: MerchantNotice, planned: Planned) -> int:
    """Plan a notice and its deliveries, and return how many they are; without an endpoint there are none."""
    found = [each for each in planned.subscriptions.get(notice.owner, ()) if each.gets(notice.type)]
    planned.notices.append(notice)
    planned.deliveries += [first_delivery(notice, each.endpoint_id) for each in found]
    return len(found)


def first_delivery(notice: MerchantNotice, endpoint_id: str, cause: Cause = Cause.EVENT) -> Delivery:
    """Return the delivery of a notice to an endpoint. Its id is derived, so that it is stored once."""
    return Delivery(
        delivery_id=derived_id("delivery", notice.event_id, endpoint_id),
        event_id=notice.event_id,
        endpoint_id=endpoint_id,
        merchant_id=notice.merchant_id,
        is_live=notice.is_live,
        cause=cause,
    )


def notify(request: NotifyMerchant, planned: Planned, _envelope: Envelope) -> int:
    """Return how many deliveries are stored of what the request is about."""
    return plan(request.notice, planned)


def renotify(request: NotifyMerchant, planned: Planned, published: int) -> int:
    """Store the deliveries again in a restored database, and return how many were published.

    Which of them had reached their endpoint is not known any more. The id shows the merchant what it has already.
    """
    plan(request.notice, planned)
    return published


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a saga is about that may fail. The event of its failure does not say so itself.

    ``fails_as`` is what its merchant is notified of then, ``cancelled_as`` where a person wanted it.
    """

    saga_id: str
    merchant_id: str
    is_live: bool
    payment_id: int
    fails_as: EventType
    cancelled_as: EventType
    data: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a saga failed."""

    saga_id: str
    cause: str
    step: str
    reason: str
    failed_at: datetime


def failed(subject: Subject, failure: Failure) -> MerchantNotice:
    """Return what a merchant is notified of once both are known, whichever was known first."""
    event_type = subject.cancelled_as if failure.cause == CANCELLED else subject.fails_as
    return MerchantNotice(
        event_id=event_id_of(subject.saga_id, event_type),
        type=event_type,
        merchant_id=subject.merchant_id,
        is_live=subject.is_live,
        occurred_at=failure.failed_at,
        data={**subject.data, "cause": failure.cause, "reason": failure.reason},
        payment_id=subject.payment_id,
        saga_id=subject.saga_id,
    )


def owners(notices: Iterable[MerchantNotice]) -> list[Owner]:
    """Return whose notices these are, in one order."""
    return sorted({each.owner for each in notices})
