"""Registration of the messages' schemas. A schema that would break a reader is refused before any process uses it."""

from __future__ import annotations

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from chassis.wire.registry import Subject


class IncompatibleSchema(Exception):
    """A message's schema is not compatible with its predecessors; nothing was registered for that subject."""


def register(client: SchemaRegistryClient, subject: Subject) -> int:
    """Register one subject's schema under its compatibility level and return its id; this is idempotent.

    Raises IncompatibleSchema where the registry refuses it.
    """
    client.set_compatibility(subject.name, level=subject.compatibility)
    try:
        return client.register_schema(subject.name, Schema(subject.message_type.SCHEMA, "AVRO"))
    except SchemaRegistryError as error:
        if error.http_status_code != 409:
            raise
        raise IncompatibleSchema(
            f"The schema of {subject.name} is not {subject.compatibility} with its predecessors: {error}. "
            f"Add fields with defaults, or publish a new message type."
        ) from error
