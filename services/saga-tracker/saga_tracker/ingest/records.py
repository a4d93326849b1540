"""One message as Kafka delivered it, and what can be read of it without a schema. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chassis.saga.deferred import RawMessage
from chassis.wire.envelope import header, trace_context
from chassis.wire.kafka import time_of
from saga_tracker.store.consumed_offsets import TopicPartition

DETAIL_LENGTH_MAX = 500
"""A detail is one sentence for a person."""


class Unexpected(Exception):
    """A message that can be decoded but that the tracker has no use for. It is dead-lettered with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One message with its offset and Kafka's timestamp, which its producer chose."""

    raw: RawMessage
    offset: int
    timestamp_ms: int

    @property
    def published_at(self) -> datetime | None:
        """When it was published; None where its timestamp is out of the range of our messages."""
        return time_of(self.timestamp_ms)

    @property
    def topic_partition(self) -> TopicPartition:
        """The topic and partition that it was read from."""
        return self.raw.topic, self.raw.partition


def plain(text: str) -> str:
    """Return a text that PostgreSQL can hold and a person can read: without NUL, and of limited length."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:DETAIL_LENGTH_MAX]


def text_header(raw: RawMessage, name: str) -> str:
    """Return a header as text; a missing one is empty."""
    return (header(raw.headers, name) or b"").decode("utf-8", "replace")


def traceparent_of(raw: RawMessage) -> str | None:
    """Return the W3C trace context of a message, or None where it has none that is well formed."""
    found = trace_context(raw.headers)
    return None if found is None else found.decode()
