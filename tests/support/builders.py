"""Messages for tests: every field has a value that fits its schema; a test sets only those that it is about."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

from chassis.wire.envelope import new_id
from messages.contract import Message

Built = TypeVar("Built", bound=Message)


def a(message_type: type[Built], **given: Any) -> Built:
    """Return a message of that type with fresh ids; ``given`` replaces fields, records as dictionaries."""
    schema = json.loads(message_type.SCHEMA)
    record = {field["name"]: _value(field["name"], field["type"]) for field in schema["fields"]}
    envelope = {
        "message_id": new_id(),
        "saga_id": new_id(),
        "saga_type": "order",
        "saga_version": 1,
        "causation_id": None,
        "occurred_at": datetime.now(UTC),
    }
    built = message_type.from_record({**record, **envelope, **given})
    assert isinstance(built, message_type)
    return built


def _value(name: str, avro: Any) -> Any:
    if isinstance(avro, list):
        return None if "null" in avro else _value(name, avro[0])
    if isinstance(avro, dict):
        if avro["type"] == "record":
            return {field["name"]: _value(field["name"], field["type"]) for field in avro["fields"]}
        if avro["type"] == "array":
            return [_value(name, avro["items"])]
        return datetime.now(UTC) if avro.get("logicalType", "").startswith("timestamp") else _value(name, avro["type"])
    examples: dict[str, Any] = {"string": f"a {name}", "int": 1, "long": 1, "boolean": True, "bytes": b""}
    return examples[avro]
