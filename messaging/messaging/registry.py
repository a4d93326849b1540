"""The schema registry: the deploy step registers every message once, services only look up.

Subjects are named by topic and record, so that several types share a topic and a saga's events stay in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from messages.contract import Message

EVENT_COMPATIBILITY = "FULL_TRANSITIVE"
COMMAND_COMPATIBILITY = "BACKWARD_TRANSITIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One message type on one topic."""

    topic: str
    message_type: type[Message]

    @property
    def name(self) -> str:
        """The subject's name, by TopicRecordNameStrategy."""
        return f"{self.topic}-{self.message_type.FULL_NAME}"

    @property
    def compatibility(self) -> str:
        """Events are read by strangers, so both ways; commands only by their one service."""
        return COMMAND_COMPATIBILITY if self.topic.endswith(".commands") else EVENT_COMPATIBILITY


class IncompatibleSchema(Exception):
    """A message's schema breaks those that went before it; nothing was registered for that subject."""


def schema_of(message_type: type[Message]) -> Schema:
    """Return the schema as the registry's client wants it."""
    return Schema(message_type.SCHEMA, "AVRO")


def register(client: SchemaRegistryClient, subject: Subject) -> int:
    """Register one subject's schema under its compatibility level and return the id; the same again changes nothing.

    Raises IncompatibleSchema where the registry refuses it.
    """
    client.set_compatibility(subject.name, level=subject.compatibility)
    try:
        return client.register_schema(subject.name, schema_of(subject.message_type))
    except SchemaRegistryError as error:
        if error.http_status_code != 409:
            raise
        raise IncompatibleSchema(
            f"The schema of {subject.name} is not {subject.compatibility} with its predecessors: {error}. "
            f"Add fields with defaults, or publish a new message type."
        ) from error
