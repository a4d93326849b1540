"""Messages to bytes and back: Confluent's wire format, schema ids from the registry, fastavro for speed.

The one place where ``Any`` is allowed: Avro's dictionaries become typed messages here.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import fastavro

from chassis.wire.envelope import TIME_MAX, TIME_MIN
from chassis.wire.registry import Subject
from messages.catalogue import MESSAGES
from messages.contract import Message

MAGIC = 0
PREFIX = struct.Struct(">bI")
MESSAGE_BYTES_MAX = 262_144
"""The largest order has about 60 kB. Kafka accepts a mebibyte, and more where the message compresses well. The messages
that follow carry its fields on, and must still fit."""


class Undecodable(Exception):
    """Bytes that no schema of ours can decode; they belong in a dead-letter topic with the reason.

    ``detail`` is about these bytes alone; the reason is the same for all that fail for one cause.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


class Registry(Protocol):
    """What the codec needs of a registry; :class:`chassis.wire.registry.RemoteRegistry` is the real one."""

    def id_of(self, subject: Subject) -> int:
        """Return the id under which the subject's schema is registered."""
        ...

    def schema(self, schema_id: int) -> str | None:
        """Return the schema of that id, or None where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    message_type: type[Message] | None
    writer: Any
    reader: Any


class Codec:
    """Encodes the messages that a service emits and decodes those it consumes. Ids and schemas are fetched once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._writing: dict[tuple[str, type[Message]], tuple[bytes, Any]] = {}
        self._readings: dict[int, _Reading] = {}

    def learn(self, topic: str, message_types: Iterable[type[Message]]) -> None:
        """Fetch the ids of the messages that will be emitted, so that the registry may be unavailable later.

        Raises LookupError where a schema is not registered.
        """
        for message_type in message_types:
            self._learn_to_write(topic, message_type)

    def encode(self, topic: str, message: Message) -> bytes:
        """Return the message's bytes for that topic.

        Raises LookupError where the topic's schema is not registered, ValueError for a message that is too long.
        """
        known = self._writing.get((topic, type(message)))
        prefix, schema = known or self._learn_to_write(topic, type(message))
        buffer = io.BytesIO()
        buffer.write(prefix)
        fastavro.schemaless_writer(buffer, schema, message.to_record())
        if buffer.tell() > MESSAGE_BYTES_MAX:
            raise ValueError(f"A {message.FULL_NAME} of {buffer.tell()} bytes; at most {MESSAGE_BYTES_MAX} are read.")
        return buffer.getvalue()

    def type_of(self, payload: bytes | None) -> type[Message] | None:
        """Return the message's type without decoding it; None for a type that this release does not know.

        Raises Undecodable where the bytes name no schema.
        """
        return self._reading(payload).message_type

    def decode(self, payload: bytes | None) -> Message:
        """Return the message in these bytes, read by today's schema. Raises Undecodable with the reason."""
        reading = self._reading(payload)
        if reading.message_type is None or payload is None:
            raise Undecodable(f"No message type {reading.writer.get('name')} in this release; upgrade the reader.")
        buffer = io.BytesIO(payload)
        buffer.seek(PREFIX.size)
        try:
            record: Any = fastavro.schemaless_reader(buffer, reading.writer, reading.reader)
            message = reading.message_type.from_record(record)
        except Exception as error:  # fastavro raises whatever the bytes lead it into; all of it means the same
            raise Undecodable(f"Not a {reading.message_type.FULL_NAME}: {type(error).__name__}: {error}") from error
        if not TIME_MIN <= message.occurred_at < TIME_MAX:
            raise Undecodable(f"Its time is {message.occurred_at}, which is out of range; send the time in UTC.")
        if buffer.tell() != len(payload):
            raise Undecodable(f"{len(payload) - buffer.tell()} bytes left after a {reading.message_type.FULL_NAME}.")
        return message

    def _reading(self, payload: bytes | None) -> _Reading:
        if payload is None or len(payload) < PREFIX.size:
            raise Undecodable("Shorter than a schema id; every message starts with a zero byte and the id.")
        if len(payload) > MESSAGE_BYTES_MAX:
            raise Undecodable(f"{len(payload)} bytes; a message has at most {MESSAGE_BYTES_MAX}.")
        magic, schema_id = PREFIX.unpack_from(payload)
        if magic != MAGIC:
            raise Undecodable(f"Starts with byte {magic}, not zero; publish in Confluent's wire format.")
        reading = self._readings.get(schema_id)
        if reading is None:
            reading = self._readings[schema_id] = self._learn(schema_id)
        return reading

    def _learn_to_write(self, topic: str, message_type: type[Message]) -> tuple[bytes, Any]:
        schema_id = self._registry.id_of(Subject(topic=topic, message_type=message_type))
        known = PREFIX.pack(MAGIC, schema_id), fastavro.parse_schema(json.loads(message_type.SCHEMA))
        self._writing[(topic, message_type)] = known
        return known

    def _learn(self, schema_id: int) -> _Reading:
        text = self._registry.schema(schema_id)
        if text is None:
            raise Undecodable(f"No schema with id {schema_id} in the registry.")
        try:
            writer: Any = fastavro.parse_schema(json.loads(text))
            message_type = MESSAGES.get(writer["name"])
        except (ValueError, KeyError, TypeError, fastavro.schema.SchemaParseException) as error:
            raise Undecodable(f"Schema {schema_id} in the registry is not a record of Avro: {error}.") from error
        if message_type is None:
            return _Reading(message_type=None, writer=writer, reader=None)
        own: Any = fastavro.parse_schema(json.loads(message_type.SCHEMA))
        return _Reading(message_type=message_type, writer=writer, reader=None if own == writer else own)
