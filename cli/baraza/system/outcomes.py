"""The outcomes of sagas as any outside consumer can read them, from the moment that the reader is created."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from baraza.system import broker
from baraza.terminal import Refusal
from chassis.wire.codec import Codec
from chassis.wire.registry import RETRIES, RemoteRegistry

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from confluent_kafka import Message as Record

    from chassis.wire.kafka import KafkaLogin

TOPIC = "saga.events"
POLL_S = 0.02
BATCH_MESSAGES = 1_000


class SagaOutcomes(ABC):
    """Reads the outcomes on a thread while it is entered. Thread-safe; ``_changed`` guards the state.

    The constructor notes the end of the topics, before the first order is submitted, so that no outcome is missed. An
    outcome may be read before the response to the submission is; a subclass keeps it until the order is known.
    """

    TOPICS: ClassVar[tuple[str, ...]] = (TOPIC,)
    """What is read. A subclass may need other topics besides."""

    def __init__(self, kafka: KafkaLogin, registry_url: str) -> None:
        self._codec = Codec(RemoteRegistry(registry_url, retries=RETRIES))
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._consumer = self._assigned(kafka)
        self._thread = threading.Thread(target=self._follow, name="outcomes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    @abstractmethod
    def _record(self, records: Sequence[Record]) -> None:
        """Record these outcomes, at least one."""

    def _check(self) -> None:
        if self._failure is not None:
            topics = ", ".join(self.TOPICS)
            raise Refusal(f"The outcomes on {topics} cannot be read: {self._failure}. Run ./baraza status.")

    def _assigned(self, kafka: KafkaLogin) -> Consumer:
        from confluent_kafka import TopicPartition

        marks = broker.watermarks(kafka, self.TOPICS.__contains__)
        consumer = broker.consumer(kafka)
        consumer.assign([TopicPartition(topic, partition, high) for (topic, partition), (_, high) in marks.items()])
        return consumer

    def _follow(self) -> None:
        try:
            with closing(self._consumer):
                while not self._stopping.is_set():
                    first = self._consumer.poll(POLL_S)
                    if first is None:
                        continue
                    polled = [first, *self._consumer.consume(BATCH_MESSAGES, 0)]
                    if records := [each for each in polled if not each.error()]:
                        self._record(records)
        except Exception as error:  # raised by _check on the waiting thread, which would else wait in vain
            with self._changed:
                self._failure = error
                self._changed.notify_all()
