"""Describes all topics as an AsyncAPI document: which messages are on each, and which login sends or receives them.

It is made from the contract and the definitions of the sagas. It describes the wire, and must never describe a
deployment: no address, no number of partitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from chassis.wire.envelope import CONTENT_TYPE
from chassis.wire.kafka import MECHANISM
from chassis.wire.registry import Subject
from messages.contract import name_of
from saga_tracker.definitions import DEFINITIONS
from stack import contract

Json: TypeAlias = dict[str, Any]

VERSION: Final = "3.1.0"
AVRO: Final = "application/vnd.apache.avro+json;version=1.9.0"
KAFKA_BINDING: Final = "0.5.0"
DEAD_LETTER: Final = "DeadLetter"
DEAD_LETTERS: Final = ".dlq"

TEXT: Final[Json] = {"type": "string"}
HEADERS: Final[Json] = {
    "type": "object",
    "description": "CloudEvents in binary mode, and the W3C trace context. Each value is UTF-8 text.",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type", "traceparent"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": TEXT | {"description": "The id of the message, as in its payload."},
        "ce_source": TEXT | {"description": "The service that published it: /baraza/<service>."},
        "ce_type": TEXT | {"description": "The full name of the message."},
        "ce_time": TEXT | {"format": "date-time", "description": "When it happened, as in its payload."},
        "content-type": {"type": "string", "const": CONTENT_TYPE.decode()},
        "traceparent": TEXT,
    },
}
LETTER_HEADERS: Final[Json] = {
    "type": "object",
    "description": "The headers of the original message, and why it could not be handled.",
    "required": ["baraza_service", "baraza_reason", "baraza_attempts", "baraza_redrive", "baraza_topic"],
    "properties": {
        "baraza_service": TEXT | {"description": "The service that could not handle it."},
        "baraza_step": TEXT | {"description": "The step that it concerns; empty where it concerns none."},
        "baraza_reason": TEXT | {"description": "The same for every message that failed for the same cause."},
        "baraza_detail": TEXT | {"description": "What differs between such messages."},
        "baraza_attempts": TEXT | {"description": "How often it was tried."},
        "baraza_redrive": TEXT | {"description": "The number of the last redrive; 0 before the first."},
        "baraza_topic": TEXT | {"description": "The topic of the original."},
        "baraza_key": TEXT | {"description": "The key of the original, in hexadecimal digits."},
        "baraza_cut": TEXT | {"description": "What of the original was too long for a dead letter."},
    },
}

SERVER: Final[Json] = {
    "host": "{bootstrap}",
    "protocol": "kafka-secure",
    "description": "The brokers, by which every login meets the same topics.",
    "variables": {"bootstrap": {"description": "The BARAZA_KAFKA of a process: hosts with their ports."}},
    "security": [{"$ref": "#/components/securitySchemes/login"}],
    "bindings": {"kafka": {"schemaRegistryVendor": "confluent", "bindingVersion": KAFKA_BINDING}},
}
"""It names no address: settings have no default one."""
LOGIN: Final[Json] = {
    "type": {"SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512"}[MECHANISM],
    "description": "A login for each service, for analytics, the audit and operators. Operations name it.",
}


def document() -> Json:
    """Return the document, in one order whatever the order of the definitions."""
    subjects = contract.subjects()
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Baraza",
            "version": "1",
            "description": (
                "The topics of Baraza's sagas. The key of every message is the id of its saga, and a saga has the same "
                "partition number on every topic. A payload is Avro in Confluent's wire format: a zero byte, the id of "
                "its schema in the registry in four bytes, and the record. A consumer must ignore messages of types "
                "that it does not know, and must tolerate a message that comes again."
            ),
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE.decode(),
        "servers": {"kafka": SERVER},
        "channels": {topic: _channel(topic, subjects) for topic in sorted(contract.topics())},
        "operations": dict(_operations()),
        "components": {
            "messages": {**_messages(subjects), DEAD_LETTER: _dead_letter()},
            "schemas": {"Headers": HEADERS, "DeadLetterHeaders": LETTER_HEADERS},
            "securitySchemes": {"login": LOGIN},
        },
    }


def text() -> str:
    """Return the document as the text that is kept in ``docs/generated``."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _channel(topic: str, subjects: tuple[Subject, ...]) -> Json:
    own = {name_of(each.message_type): each.message_type.FULL_NAME for each in subjects if each.topic == topic}
    if topic.endswith(DEAD_LETTERS):
        own = {DEAD_LETTER: DEAD_LETTER}
    return {
        "address": topic,
        "description": _purpose(topic),
        "messages": {name: {"$ref": f"#/components/messages/{full_name}"} for name, full_name in sorted(own.items())},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": KAFKA_BINDING}},
    }


def _purpose(topic: str) -> str:
    owner, _, kind = topic.rpartition(".")
    match kind:
        case "events":
            return f"What has happened in {owner}."
        case "commands":
            return f"Commands to {owner}."
        case "decisions":
            return "What the saga-tracker decides, which it reads back before it acts on it."
        case "dlq":
            return f"Messages that {owner} could not handle, with their original bytes."
    return f"What {owner} publishes that belongs to no saga."


def _messages(subjects: tuple[Subject, ...]) -> Json:
    types = {each.message_type.FULL_NAME: each.message_type for each in subjects}
    return {full_name: _message(json.loads(types[full_name].SCHEMA)) for full_name in sorted(types)}


def _message(schema: Mapping[str, Any]) -> Json:
    return {
        "name": f"{schema['namespace']}.{schema['name']}",
        "title": schema["name"],
        "summary": schema["doc"],
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {"schemaFormat": AVRO, "schema": schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The id of the saga."},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _dead_letter() -> Json:
    return {
        "name": DEAD_LETTER,
        "title": DEAD_LETTER,
        "summary": "A message that could not be handled: its original key and bytes, whatever they are.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
    }


def _operations() -> Iterator[tuple[str, Json]]:
    for login, rights in sorted(contract.kafka_rights().items()):
        for action, topics in (("send", rights.writes), ("receive", rights.reads)):
            for topic in sorted(topics):
                yield f"{login}.{action}.{topic}", _operation(login, action, topic)


def _operation(login: str, action: str, topic: str) -> Json:
    purpose = _purpose(topic)
    causes = list(dict.fromkeys(_causes(login, topic))) if action == "receive" else []
    return {
        "action": action,
        "title": f"{login}: {action}",
        "summary": f"{login} {'publishes' if action == 'send' else 'reads'}: {purpose[0].lower()}{purpose[1:]}",
        **({"description": " ".join(causes)} if causes else {}),
        "channel": {"$ref": f"#/channels/{topic}"},
    }


def _causes(login: str, topic: str) -> Iterator[str]:
    """Yield what the messages of a topic lead to in a service, by the definitions of the sagas."""
    for saga in DEFINITIONS.values():
        of_saga = f"in {saga.name} version {saga.version}"
        for step in saga.steps:
            if step.service != login:
                continue
            if step.trigger_topic == topic:
                yield f"{name_of(step.trigger)} triggers {step.name} {of_saga}."
            if step.compensation is not None and topic == f"{login}.commands":
                yield f"{name_of(step.compensation.command)} undoes {step.name} {of_saga}."
        for event, services in saga.reactions.items():
            if login in services and topic == f"{event.OWNER}.events":
                yield f"{login} reacts to {name_of(event)} {of_saga}."
        if login == saga.started_by.OWNER and topic == contract.SAGA_EVENTS:
            yield f"{name_of(saga.completed_by)} and {name_of(saga.failed_by)} end {saga.name} version {saga.version}."
