"""The ends of sagas as any consumer outside can know them, from the moment that this is made."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Self

from chassis.wire.codec import Codec
from chassis.wire.registry import RemoteRegistry

from baraza import broker
from baraza.terminal import Refusal

if TYPE_CHECKING:
    from chassis.wire.kafka import KafkaLogin
    from confluent_kafka import Consumer
    from confluent_kafka import Message as Read

TOPIC = "saga.events"
POLL_S = 0.02
BATCH_MESSAGES = 1_000


class SagaOutcomes(ABC):
    """Reads the ends on a thread while it is entered. Any thread may ask; ``_changed`` guards what is known.

    The end of the topic is noted here, before the first order is submitted, so that none is missed. An end may come
    before the answer to the submission does; whoever inherits keeps it until the order is known.
    """

    def __init__(self, kafka: KafkaLogin, registry_url: str) -> None:
        self._codec = Codec(RemoteRegistry(registry_url))
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._consumer = self._subscribed(kafka)
        self._thread = threading.Thread(target=self._follow, name="ends", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @abstractmethod
    def _record(self, read: Sequence[Read]) -> None:
        """Take these ends, at least one."""

    def _check(self) -> None:
        if self._failure is not None:
            raise Refusal(f"The ends on {TOPIC} cannot be followed: {self._failure}. Run ./baraza status.")

    def _subscribed(self, kafka: KafkaLogin) -> Consumer:
        from confluent_kafka import TopicPartition

        ends = broker.marks(kafka, TOPIC.__eq__)
        consumer = broker.consumer(kafka)
        consumer.assign([TopicPartition(topic, partition, end) for (topic, partition), (_, end) in ends.items()])
        return consumer

    def _follow(self) -> None:
        try:
            with closing(self._consumer):
                while not self._stopping.is_set():
                    first = self._consumer.poll(POLL_S)
                    if first is None:
                        continue
                    read = [first, *self._consumer.consume(BATCH_MESSAGES, 0)]
                    if ends := [each for each in read if not each.error()]:
                        self._record(ends)
        except Exception as error:  # handed to whoever waits; a thread that ended in silence would leave them waiting
            with self._changed:
                self._failure = error
                self._changed.notify_all()
