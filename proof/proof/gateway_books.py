"""What the models of both gateways have in common: the payment, and what was taken of its payer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

from proof.gateway_calls import Answer, GatewayRequest

PAYMENT_ID: Final = 4_711
AMOUNT_MINOR: Final = 1_000
CURRENCY: Final = "EUR"

BooksT = TypeVar("BooksT")
Arrival: TypeAlias = tuple[str, BooksT, Answer]
"""What a request leads to, and its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How many authorizations are held or captured, how many were cancelled, and how many refunds have succeeded.

    ``capture_failed`` counts captures that had succeeded before.
    """

    held: int = 0
    captured: int = 0
    cancelled: int = 0
    refunded: int = 0
    capture_failed: int = 0


class Books(Protocol):
    """A gateway. Each state of it is a value. ``events`` are bodies of webhooks, which may come at any time."""

    @property
    def events(self) -> frozenset[bytes]: ...

    @property
    def taken(self) -> Taken: ...

    def a_day_later(self) -> Books: ...

    def going_on(self) -> Iterator[tuple[str, Books]]: ...

    def arriving(self, asked: GatewayRequest) -> Iterator[tuple[str, Books, Answer]]: ...
