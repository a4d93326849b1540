"""The open orders of a run and their outcomes, read from ``saga.events`` alone, as any outside consumer could."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baraza.system.outcomes import SagaOutcomes
from chassis.wire.codec import Undecodable
from messages.contract import Message
from messages.saga import OrderConfirmed, OrderFailed

if TYPE_CHECKING:
    from confluent_kafka import Message as Record

    from chassis.wire.kafka import KafkaLogin

REJECTED = "REJECTED"
CONFIRMED_KEPT_MAX = 1_000
"""Confirmed orders whose ids are kept, for their returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The states of a run's orders so far, counted."""

    confirmed: int
    cancelled: dict[str, int]
    """By step and reason."""
    parked: int
    open: int

    @property
    def cancelled_total(self) -> int:
        """How many were cancelled, for whatever reason."""
        return sum(self.cancelled.values())

    @property
    def settled(self) -> int:
        """How many have ended or are parked: nothing waits for them any more."""
        return self.confirmed + self.cancelled_total + self.parked


class OpenOrders(SagaOutcomes):
    """The orders of a run that have not ended, at most ``open_max``, and the outcomes of those that have.

    It is the window of a replay: a permit is acquired before an order is submitted and released at its end.
    """

    def __init__(self, kafka: KafkaLogin, registry_url: str, *, open_max: int) -> None:
        super().__init__(kafka, registry_url)
        self._open_max = open_max
        self._permits_taken = 0
        self._open: set[str] = set()
        self._early: dict[str, Message] = {}
        self._parked: set[str] = set()
        self._confirmed = 0
        self._confirmed_first: list[str] = []
        self._cancelled: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._latencies_ms = array("d")
        self._ended = 0

    def acquire(self, count: int, timeout_s: float) -> bool:
        """Wait for ``count`` permits, each for one open order; False where they are not free in time."""
        with self._changed:
            is_free = self._changed.wait_for(
                lambda: self._failure is not None or self._permits_taken + count <= max(self._open_max, count),
                timeout_s,
            )
            self._check()
            if is_free:
                self._permits_taken += count
            return is_free

    def release(self, count: int) -> None:
        """Release the permits of orders that were refused."""
        with self._changed:
            self._permits_taken -= count
            self._changed.notify_all()

    def accepted(self, order_ids: Iterable[str]) -> None:
        """Follow these orders, each of which has a permit."""
        with self._changed:
            for order_id in order_ids:
                early = self._early.pop(order_id, None)
                self._open.add(order_id)
                if early is not None:
                    self._end(early)

    def parked(self, order_ids: Iterable[str]) -> None:
        """Record which orders are parked now; an order that is parked no longer counts as open again."""
        with self._changed:
            parked = self._open.intersection(order_ids)
            self._permits_taken += len(self._parked) - len(parked)
            self._parked = parked
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until every order has ended or is parked; False where that is not so in time."""
        with self._changed:
            is_done = self._changed.wait_for(lambda: self._failure is not None or self._open <= self._parked, timeout_s)
            self._check()
            return is_done

    def tally(self) -> Tally:
        """Return the present counts."""
        with self._changed:
            self._check()
            return Tally(
                confirmed=self._confirmed,
                cancelled=dict(self._cancelled.most_common()),
                parked=len(self._parked),
                open=len(self._open) - len(self._parked),
            )

    @property
    def ended(self) -> int:
        """How many orders have ended; it grows as long as anything moves."""
        return self._ended

    def still_open(self, limit: int) -> Sequence[str]:
        """Return up to ``limit`` orders that have not ended and are not parked, the oldest first."""
        with self._changed:
            return sorted(self._open - self._parked)[:limit]

    def parked_orders(self, limit: int) -> Sequence[str]:
        """Return up to ``limit`` orders that are parked."""
        with self._changed:
            return sorted(self._parked)[:limit]

    def confirmed_orders(self, limit: int) -> Sequence[str]:
        """Return up to ``limit`` orders that were confirmed, the first ones first."""
        with self._changed:
            return self._confirmed_first[:limit]

    def examples(self) -> dict[str, str]:
        """Return one order for each kind of outcome: "confirmed", and the reasons of the cancelled ones."""
        with self._changed:
            return dict(self._examples)

    def latencies_ms(self) -> list[float]:
        """Return the time from submission to outcome of every order that ended, in ascending order."""
        with self._changed:
            return sorted(self._latencies_ms)

    def _record(self, records: Sequence[Record]) -> None:
        messages: list[Message] = []
        for record in records:
            with suppress(Undecodable):  # no outcome; the services and the tracker have their dead letters of it
                messages.append(self._codec.decode(record.value()))
        with self._changed:
            for message in messages:
                if message.saga_id in self._open:
                    self._end(message)
                else:
                    self._early[message.saga_id] = message
            self._changed.notify_all()

    def _end(self, message: Message) -> None:
        match message:
            case OrderConfirmed():
                self._confirmed += 1
                if len(self._confirmed_first) < CONFIRMED_KEPT_MAX:
                    self._confirmed_first.append(message.saga_id)
                outcome = "confirmed"
            case OrderFailed():
                # Only a rejection's reason is a fixed word of its service; others are sentences about one order.
                outcome = f"{message.step}: {message.reason if message.cause == REJECTED else message.cause.lower()}"
                self._cancelled[outcome] += 1
            case _:
                return
        self._open.discard(message.saga_id)
        # A parked order released its permit when it was parked.
        if message.saga_id in self._parked:
            self._parked.discard(message.saga_id)
        else:
            self._permits_taken -= 1
        self._ended += 1
        self._examples.setdefault(outcome, message.saga_id)
        self._latencies_ms.append((message.occurred_at - message.started_at).total_seconds() * 1_000)
        self._changed.notify_all()
