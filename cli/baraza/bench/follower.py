"""Follows orders from the moment they were due to be sent to the moment their outcome is readable outside."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from baraza.system.outcomes import SagaOutcomes
from chassis.wire.codec import Undecodable
from messages.contract import Message
from messages.merchant import PaymentSubmitted
from messages.saga import (
    DividendPayoutCompleted,
    OrderConfirmed,
    OrderFailed,
    PaymentCompleted,
    PaymentFailed,
    ReceiptCompleted,
    ReceiptFailed,
    WithdrawalCompleted,
    WithdrawalFailed,
)

if TYPE_CHECKING:
    from confluent_kafka import Message as Record

    from chassis.wire.kafka import KafkaLogin


@dataclass(frozen=True, slots=True)
class Ended:
    """One order that ended: when it was due, and when its outcome was read (monotonic)."""

    order_id: str
    due_at_s: float
    read_at_s: float


class Follower(SagaOutcomes):
    """Counts the outcomes of sagas, and times those of the orders that it follows."""

    ENDS: ClassVar[tuple[type[Message], type[Message]]] = (OrderConfirmed, OrderFailed)
    """The messages of a success and of a failure."""

    def __init__(self, kafka: KafkaLogin, registry_url: str) -> None:
        super().__init__(kafka, registry_url)
        self._open: dict[str, float] = {}
        self._early: dict[str, float] = {}
        self._ended: list[Ended] = []
        self.confirmed = 0
        self.cancelled = 0

    def accepted(self, orders: Iterable[tuple[str, float]]) -> None:
        """Follow these orders: their ids, and when each was due to be sent (monotonic)."""
        with self._changed:
            for order_id, due_at_s in orders:
                read_at_s = self._early.pop(order_id, None)
                if read_at_s is None:
                    self._open[order_id] = due_at_s
                else:
                    self._ended.append(Ended(order_id, due_at_s, read_at_s))

    def wait_for_room(self, open_max: int, timeout_s: float) -> bool:
        """Wait until fewer than ``open_max`` orders are open; False where they are not in time."""
        with self._changed:
            has_room = self._changed.wait_for(lambda: self._failure or len(self._open) < open_max, timeout_s)
            self._check()
            return bool(has_room)

    def open(self, due_before_s: float = math.inf) -> int:
        """Return how many orders that were due before then (monotonic) have not ended."""
        with self._changed:
            return sum(due_at_s < due_before_s for due_at_s in self._open.values())

    def still_open(self, limit: int) -> list[str]:
        """Return up to ``limit`` orders that have not ended."""
        with self._changed:
            return sorted(self._open)[:limit]

    def ended(self, due_from_s: float, due_until_s: float) -> list[Ended]:
        """Return the orders that were due in that time and have ended."""
        with self._changed:
            return [each for each in self._ended if due_from_s <= each.due_at_s < due_until_s]

    def _record(self, records: Sequence[Record]) -> None:
        read_at_s = time.monotonic()
        with self._changed:
            for record in records:
                self._read(record, read_at_s)
            self._changed.notify_all()

    def _read(self, record: Record, read_at_s: float) -> None:
        outcome = self._type_of(record)
        if outcome in self.ENDS:
            self.confirmed += outcome is self.ENDS[0]
            self.cancelled += outcome is self.ENDS[1]
            self._end((record.key() or b"").decode(errors="replace"), read_at_s)

    def _end(self, order_id: str, read_at_s: float) -> None:
        due_at_s = self._open.pop(order_id, None)
        if due_at_s is None:
            self._early[order_id] = read_at_s
        else:
            self._ended.append(Ended(order_id, due_at_s, read_at_s))

    def _type_of(self, record: Record) -> type[Message] | None:
        try:
            return self._codec.type_of(record.value())
        except Undecodable:
            return None


class PaymentFollower(Follower):
    """The same for payments, which merchants know by numbers: an event of merchant has the number and the saga."""

    TOPICS: ClassVar[tuple[str, ...]] = (*SagaOutcomes.TOPICS, "merchant.events")
    ENDS: ClassVar[tuple[type[Message], type[Message]]] = (PaymentCompleted, PaymentFailed)

    def __init__(self, kafka: KafkaLogin, registry_url: str) -> None:
        super().__init__(kafka, registry_url)
        self._numbers: dict[str, str] = {}
        self._unnumbered: dict[str, float] = {}

    def _read(self, record: Record, read_at_s: float) -> None:
        if self._type_of(record) is not PaymentSubmitted:
            super()._read(record, read_at_s)
            return
        submitted = self._codec.decode(record.value())
        assert isinstance(submitted, PaymentSubmitted)
        ended_at_s = self._unnumbered.pop(submitted.saga_id, None)
        if ended_at_s is None:
            self._numbers[submitted.saga_id] = str(submitted.payment_id)
        else:
            super()._end(str(submitted.payment_id), ended_at_s)

    def _end(self, order_id: str, read_at_s: float) -> None:
        number = self._numbers.pop(order_id, None)
        if number is None:
            self._unnumbered[order_id] = read_at_s
        else:
            super()._end(number, read_at_s)


class SaccoFollower(Follower):
    """The same for withdrawals and receipts, by the ids of their sagas. It notes when dividends were paid besides."""

    SUCCEEDED: ClassVar[frozenset[type[Message]]] = frozenset({WithdrawalCompleted, ReceiptCompleted})
    FAILED: ClassVar[frozenset[type[Message]]] = frozenset({WithdrawalFailed, ReceiptFailed})

    def __init__(self, kafka: KafkaLogin, registry_url: str) -> None:
        super().__init__(kafka, registry_url)
        self._dividends_at_s: list[float] = []

    def dividends(self, from_s: float = 0.0, until_s: float = math.inf) -> int:
        """Return how many payouts of dividends were read as paid in that time (monotonic)."""
        with self._changed:
            return sum(from_s <= at_s < until_s for at_s in self._dividends_at_s)

    def _read(self, record: Record, read_at_s: float) -> None:
        outcome = self._type_of(record)
        if outcome is DividendPayoutCompleted:
            self._dividends_at_s.append(read_at_s)
        elif outcome in self.SUCCEEDED or outcome in self.FAILED:
            self.confirmed += outcome in self.SUCCEEDED
            self.cancelled += outcome in self.FAILED
            self._end((record.key() or b"").decode(errors="replace"), read_at_s)
