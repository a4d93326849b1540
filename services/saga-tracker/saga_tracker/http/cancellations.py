"""Publishes a cancellation by staff as a command, so that the worker records it in order with all other messages."""

from __future__ import annotations

import threading
import time
from datetime import datetime

from confluent_kafka import KafkaError, Producer

from chassis.wire.codec import Codec
from chassis.wire.envelope import headers, new_id, new_traceparent
from messages.saga import CancelSaga
from saga_tracker.model.saga import CANCEL_TOPIC, SERVICE
from saga_tracker.store.queries import SagaView

PUBLISH_WITHIN_S = 5.0
POLL_S = 0.05


class NotPublished(Exception):
    """Kafka did not acknowledge the command in time. The command may still arrive."""


class Cancellations:
    """Publishes CancelSaga; any number of threads may use it."""

    def __init__(self, producer: Producer, codec: Codec) -> None:
        self._producer = producer
        self._codec = codec

    def send(self, saga: SagaView, *, actor: str, reason: str, now: datetime) -> str:
        """Publish the command, wait until every in-sync replica has it, and return its id. Raises NotPublished."""
        summary = saga.summary
        command = CancelSaga(
            message_id=new_id(),
            saga_id=summary.saga_id,
            saga_type=summary.type,
            saga_version=summary.version,
            causation_id=None,
            occurred_at=now,
            actor=actor,
            reason=reason,
        )
        done = threading.Event()
        errors: list[KafkaError] = []

        def on_delivery(error: KafkaError | None, _message: object) -> None:
            errors.extend([error] if error is not None else [])
            done.set()

        self._producer.produce(
            CANCEL_TOPIC,
            key=command.saga_id.encode(),
            value=self._codec.encode(CANCEL_TOPIC, command),
            headers=list(headers(command, source=SERVICE, traceparent=new_traceparent())),
            partition=saga.partition,
            on_delivery=on_delivery,
        )
        give_up_at = time.monotonic() + PUBLISH_WITHIN_S
        while not done.is_set() and time.monotonic() < give_up_at:
            self._producer.poll(POLL_S)
        if errors or not done.is_set():
            why = errors[0].str() if errors else f"no acknowledgement within {PUBLISH_WITHIN_S} s"
            raise NotPublished(f"Kafka did not acknowledge the command: {why}.")
        return command.message_id
