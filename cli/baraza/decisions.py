"""Follows what becomes of a run's orders, from the stream of sagas' ends alone, as any consumer outside could."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from messages.contract import Message
from messages.saga import OrderConfirmed, OrderFailed

from baraza.outcomes import SagaOutcomes

if TYPE_CHECKING:
    from chassis.wire.kafka import KafkaLogin
    from confluent_kafka import Message as Read

REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What has become of a run's orders so far."""

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
    def ended(self) -> int:
        """How many nobody has to wait for any more."""
        return self.confirmed + self.cancelled_total + self.parked


class Decisions(SagaOutcomes):
    """The run's open orders, and the ends of those that ended.

    ``place`` bounds how many orders are open: it is taken before an order is submitted and given back at its end.
    """

    def __init__(self, kafka: KafkaLogin, registry_url: str, *, open_max: int) -> None:
        super().__init__(kafka, registry_url)
        self._open_max = open_max
        self._reserved = 0
        self._open: set[str] = set()
        self._early: dict[str, Message] = {}
        self._parked: set[str] = set()
        self._confirmed = 0
        self._cancelled: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._latencies_ms = array("d")
        self._decided = 0

    def take_places(self, count: int, timeout_s: float) -> bool:
        """Wait until ``count`` more orders may be open and take their places; False where none came free in time."""
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._failure is not None or self._reserved + count <= max(self._open_max, count), timeout_s
            )
            self._check()
            if free:
                self._reserved += count
            return free

    def give_back(self, count: int) -> None:
        """Give back the places of orders that were refused."""
        with self._changed:
            self._reserved -= count
            self._changed.notify_all()

    def accepted(self, order_ids: Iterable[str]) -> None:
        """Follow these orders, each of which has a place."""
        with self._changed:
            for order_id in order_ids:
                early = self._early.pop(order_id, None)
                self._open.add(order_id)
                if early is not None:
                    self._end(early)

    def parked(self, order_ids: Iterable[str]) -> None:
        """Note which orders are parked now; an order that is on its way again counts as open."""
        with self._changed:
            parked = self._open.intersection(order_ids)
            self._reserved += len(self._parked) - len(parked)
            self._parked = parked
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until no order is open, at most ``timeout_s``; say whether that is so."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._failure is not None or self._open <= self._parked, timeout_s)
            self._check()
            return done

    def tally(self) -> Tally:
        """Return the counts as they are now."""
        with self._changed:
            self._check()
            return Tally(
                confirmed=self._confirmed,
                cancelled=dict(self._cancelled.most_common()),
                parked=len(self._parked),
                open=len(self._open) - len(self._parked),
            )

    @property
    def decided(self) -> int:
        """How many orders have ended; it grows as long as anything moves."""
        return self._decided

    def still_open(self, limit: int) -> Sequence[str]:
        """Return up to ``limit`` orders that have not ended and are not parked, the oldest first."""
        with self._changed:
            return sorted(self._open - self._parked)[:limit]

    def parked_orders(self, limit: int) -> Sequence[str]:
        """Return up to ``limit`` orders that are parked."""
        with self._changed:
            return sorted(self._parked)[:limit]

    def examples(self) -> dict[str, str]:
        """Return one order for each kind of end: "confirmed", and the reasons of the cancelled ones."""
        with self._changed:
            return dict(self._examples)

    def latencies_ms(self) -> list[float]:
        """Return the time from submission to decision of every order that ended, in ascending order."""
        with self._changed:
            return sorted(self._latencies_ms)

    def _record(self, read: Sequence[Read]) -> None:
        messages = [self._codec.decode(each.value()) for each in read]
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
                what = "confirmed"
            case OrderFailed():
                # Only a rejection's reason is a word of its service's; others are sentences about one order.
                what = f"{message.step}: {message.reason if message.cause == REJECTED else message.cause.lower()}"
                self._cancelled[what] += 1
            case _:
                return
        self._open.discard(message.saga_id)
        # A parked order gave its place back when it was parked.
        if message.saga_id in self._parked:
            self._parked.discard(message.saga_id)
        else:
            self._reserved -= 1
        self._decided += 1
        self._examples.setdefault(what, message.saga_id)
        self._latencies_ms.append((message.occurred_at - message.started_at).total_seconds() * 1_000)
        self._changed.notify_all()
