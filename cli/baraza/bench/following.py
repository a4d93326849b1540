"""Follows orders from the moment they were due to be sent to the moment anyone outside can know their end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from messages.saga import OrderConfirmed
from messaging.codec import Codec, RemoteRegistry

from baraza import broker
from baraza.terminal import Refusal

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from messaging.kafka import KafkaLogin

TOPIC = "saga.events"
POLL_S = 0.02
BATCH_MESSAGES = 1_000


class Follower:
    """Counts the ends of sagas, and times those of the orders that it was told of. Any thread may ask.

    An end may come before the answer to the submission does; it is kept until the order is known.
    """

    def __init__(self, kafka: KafkaLogin, registry_url: str) -> None:
        self._codec = Codec(RemoteRegistry(registry_url))
        self._changed = threading.Condition()
        self._open: dict[str, float] = {}
        self._early: dict[str, float] = {}
        self._latencies_s: list[tuple[float, float]] = []
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._consumer = self._subscribed(kafka)
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self.confirmed = 0
        self.cancelled = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def ended(self) -> int:
        """How many sagas have ended since this follower began."""
        return self.confirmed + self.cancelled

    def accepted(self, order_ids: Iterable[str], due_at_s: float) -> None:
        """Follow these orders, which were due to be sent at ``due_at_s`` (monotonic)."""
        with self._changed:
            for order_id in order_ids:
                ended_at_s = self._early.pop(order_id, None)
                if ended_at_s is None:
                    self._open[order_id] = due_at_s
                else:
                    self._latencies_s.append((due_at_s, ended_at_s - due_at_s))

    def wait_for_room(self, open_max: int, timeout_s: float) -> bool:
        """Wait until fewer than ``open_max`` orders are open; False where that did not come about in time."""
        with self._changed:
            there_is = self._changed.wait_for(lambda: self._failure or len(self._open) < open_max, timeout_s)
            self._check()
            return bool(there_is)

    @property
    def open(self) -> int:
        """How many orders have not ended."""
        return len(self._open)

    def still_open(self, limit: int) -> list[str]:
        """Return up to ``limit`` orders that have not ended."""
        with self._changed:
            return sorted(self._open)[:limit]

    def latencies_ms(self, due_from_s: float, due_until_s: float) -> list[float]:
        """Return how long the orders took that were due in that time and have ended, in ascending order."""
        with self._changed:
            return sorted(1_000 * took_s for due_s, took_s in self._latencies_s if due_from_s <= due_s < due_until_s)

    def _check(self) -> None:
        if self._failure is not None:
            raise Refusal(f"The ends of sagas cannot be followed on {TOPIC}: {self._failure}.")

    def _subscribed(self, kafka: KafkaLogin) -> Consumer:
        from confluent_kafka import TopicPartition

        ends = broker.marks(kafka, TOPIC.__eq__)
        consumer = broker.consumer(kafka)
        consumer.assign([TopicPartition(topic, partition, end) for (topic, partition), (_, end) in ends.items()])
        return consumer

    def _follow(self) -> None:
        try:
            while not self._stopping.is_set():
                first = self._consumer.poll(POLL_S)
                if first is None:
                    continue
                messages = [each for each in (first, *self._consumer.consume(BATCH_MESSAGES, 0)) if not each.error()]
                ends = [
                    ((message.key() or b"").decode(), self._codec.type_of(message.value()) is OrderConfirmed)
                    for message in messages
                ]
                self._record(ends, time.monotonic())
            self._consumer.close()
        except Exception as error:  # handed to whoever waits; a thread that ended in silence would leave them waiting
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _record(self, ends: Iterable[tuple[str, bool]], at_s: float) -> None:
        with self._changed:
            for order_id, is_confirmed in ends:
                self.confirmed += is_confirmed
                self.cancelled += not is_confirmed
                due_s = self._open.pop(order_id, None)
                if due_s is None:
                    self._early[order_id] = at_s
                else:
                    self._latencies_s.append((due_s, at_s - due_s))
            self._changed.notify_all()
