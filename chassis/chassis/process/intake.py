"""A worker's intake from Kafka: how many messages it takes, when, and up to which offset they are handled.

An offset is stored only after the transaction of its message has committed; Kafka commits stored offsets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import Message as KafkaMessage

from chassis.process.calls import Calls
from chassis.process.lag import Lag
from chassis.process.pace import Pace
from chassis.saga.deferred import RawMessage
from chassis.wire import kafka
from chassis.wire.kafka import KafkaLogin, UnreadableHeaders

BATCH_SIZE_MAX = 500
"""Large enough that a commit's fsync is shared by hundreds, small enough that a failed batch is soon repeated."""
POLL_IDLE_S = 0.1
POLL_BUSY_S = 0.002
"""The poll while calls are under way, so that their results are settled soon."""
LEAVE_WITHIN_S = 3.0
SESSION_TIMEOUT_MS = 6_000
HEARTBEAT_MS = 2_000

FINAL_ERRORS = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)

log = structlog.get_logger()


def consumer(login: KafkaLogin, group: str, instance: str) -> Consumer:
    """Return a consumer whose range assignment gives partition p of every topic to one member."""
    return kafka.client(
        Consumer,
        login,
        {
            "group.id": group,
            "client.id": instance,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": True,
            "auto.commit.interval.ms": 500,
            "enable.auto.offset.store": False,
            "partition.assignment.strategy": "range",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 16_384,
            "topic.metadata.refresh.interval.ms": 10_000,
            # A connection that is only made when it is needed was sometimes not made again to the group's coordinator.
            "enable.sparse.connections": False,
        },
    )


class Intake:
    """Takes messages from a consumer, no more than can be handled, and stores their offsets. One thread uses it."""

    def __init__(
        self, consumer: Consumer, calls: Calls, pace: Pace, stopping: threading.Event, *, calls_out: bool
    ) -> None:
        self._consumer = consumer
        self._calls = calls
        self._pace = pace
        self._stopping = stopping
        self._calls_out = calls_out
        self.lag = Lag(consumer)

    @property
    def room(self) -> int:
        """How many messages may be taken: where each may lead to a call, no more than can soon be called.

        The rest waits in Kafka, in order; a call is over within seconds, so no partition waits for one order.
        """
        return min(BATCH_SIZE_MAX, self._calls.room) if self._calls_out else BATCH_SIZE_MAX

    def take(self, room: int) -> list[KafkaMessage]:
        """Return the next messages, at most ``room``. Raises KafkaException for an error that does not pass."""
        found: list[KafkaMessage] = []
        if room <= 0:
            self._calls.wait(POLL_IDLE_S)
        elif (first := self._consumer.poll(POLL_BUSY_S if self._calls.under_way else POLL_IDLE_S)) is not None:
            found.append(first)
        if found or self._calls.under_way:
            found += self._gather(room - len(found))
        return _without_errors(found)

    def store_offsets(self, taken: Sequence[KafkaMessage]) -> None:
        """Let Kafka commit the offsets of these messages: they are handled."""
        ends = {(message.topic(), message.partition()): message for message in taken}
        try:
            for last in ends.values():
                self._consumer.store_offsets(message=last)
                self.lag.note_handled(str(last.topic()), kafka.time_of(last.timestamp()[1]))
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise
            log.info("A partition was revoked in mid-batch; its new owner takes the batch again.")

    def leave(self) -> None:
        """Leave the group. A client that hangs would never return from that, and the process ends all the same."""
        leaving = threading.Thread(target=self._consumer.close, name="leaving", daemon=True)
        leaving.start()
        leaving.join(LEAVE_WITHIN_S)

    def _gather(self, room: int) -> list[KafkaMessage]:
        """Return what comes until it is time for the next batch; results of calls gather all the while."""
        began_s = time.monotonic()
        rest_s = self._pace.rest_s(began_s)
        found = self._consumer.consume(room, rest_s) if room > 0 else []
        if self._calls.under_way:
            self._stopping.wait(max(0.0, began_s + rest_s - time.monotonic()))
        return found


def _without_errors(found: Sequence[KafkaMessage]) -> list[KafkaMessage]:
    messages = []
    for message in found:
        error = message.error()
        if error is None:
            messages.append(message)
        elif error.fatal() or error.code() in FINAL_ERRORS:
            raise KafkaException(error)
        else:
            log.warning("Kafka reported a passing error.", error=error.str())
    return messages


def value_of(message: KafkaMessage) -> bytes | None:
    """Return a consumed message's bytes."""
    value: Any = message.value()
    payload: bytes | None = value
    return payload


def raw_of(message: KafkaMessage) -> RawMessage:
    """Return a consumed message as the chassis keeps it."""
    topic, partition = message.topic(), message.partition()
    assert topic is not None, "a consumed message has its topic"
    assert partition is not None, "a consumed message has its partition"
    key: Any = message.key()
    offset = message.offset() or 0
    try:
        headers, flaw = kafka.headers_of(message), ""
    except UnreadableHeaders as error:
        headers, flaw = (), str(error)
    return RawMessage(
        topic=topic,
        partition=partition,
        key=key,
        value=value_of(message),
        headers=headers,
        offset=offset,
        headers_flaw=flaw,
    )
