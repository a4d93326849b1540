"""The real schema registry: ids for the schemas that the deploy step registers, and refusals of breaking changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from chassis.wire.registry import RemoteRegistry, Subject
from messages.inventory import ReleaseInventory
from messages.ledger import LedgerPosted
from stack import Stack, contract
from stack.registering import IncompatibleSchema, register
from support.builders import a


@pytest.fixture
def client(infrastructure: Stack) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient(infrastructure.registry_writer()) as client:
        yield client


def changed(message_type: Any, **change: Any) -> Any:
    """Return a later release's class of that message, with the changed schema."""
    schema = {**json.loads(message_type.SCHEMA), **change}
    return type(message_type.__name__, (message_type,), {"SCHEMA": json.dumps(schema)})


def fields_of(message_type: Any) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = json.loads(message_type.SCHEMA)["fields"]
    return fields


def test_the_deploy_step_registered_everything_at_its_level(
    infrastructure: Stack, client: SchemaRegistryClient
) -> None:
    for subject in contract.subjects():
        assert client.get_compatibility(subject.name) == subject.compatibility
        assert client.lookup_schema(subject.name, Schema(subject.message_type.SCHEMA, "AVRO")).schema_id


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"fields": [*fields_of(LedgerPosted), {"name": "rate", "type": "long"}]}, id="no default"),
        pytest.param({"fields": fields_of(LedgerPosted)[:-1]}, id="a required field removed"),
        pytest.param(
            {"fields": [*fields_of(LedgerPosted)[:-1], {"name": "amount_minor", "type": "string"}]}, id="another type"
        ),
    ],
)
def test_a_change_that_breaks_an_events_reader_is_refused(client: SchemaRegistryClient, change: dict[str, Any]) -> None:
    topic = f"test-{new_id()}.events"
    register(client, Subject(topic=topic, message_type=LedgerPosted))
    with pytest.raises(IncompatibleSchema, match="FULL_TRANSITIVE"):
        register(client, Subject(topic=topic, message_type=changed(LedgerPosted, **change)))


def test_a_change_back_is_compared_with_every_version_before(client: SchemaRegistryClient) -> None:
    topic = f"test-{new_id()}.events"
    added = [*fields_of(LedgerPosted), {"name": "note", "type": "string", "default": ""}]
    another = [*fields_of(LedgerPosted), {"name": "note", "type": "long", "default": 0}]
    register(client, Subject(topic=topic, message_type=LedgerPosted))
    register(client, Subject(topic=topic, message_type=changed(LedgerPosted, fields=added)))
    register(client, Subject(topic=topic, message_type=changed(LedgerPosted, doc="without the note again")))
    with pytest.raises(IncompatibleSchema):
        register(client, Subject(topic=topic, message_type=changed(LedgerPosted, fields=another)))


def test_a_command_may_lose_a_field_but_gain_none_without_a_default(client: SchemaRegistryClient) -> None:
    topic = f"test-{new_id()}.commands"
    fewer = changed(ReleaseInventory, fields=fields_of(ReleaseInventory)[:-1])
    more = changed(ReleaseInventory, fields=[*fields_of(ReleaseInventory), {"name": "urgent", "type": "boolean"}])
    register(client, Subject(topic=topic, message_type=ReleaseInventory))
    register(client, Subject(topic=topic, message_type=fewer))
    with pytest.raises(IncompatibleSchema, match="BACKWARD_TRANSITIVE"):
        register(client, Subject(topic=topic, message_type=more))


def test_todays_reader_decodes_what_a_later_release_wrote(infrastructure: Stack, client: SchemaRegistryClient) -> None:
    topic = f"test-{new_id()}.events"
    later = changed(LedgerPosted, fields=[*fields_of(LedgerPosted), {"name": "note", "type": "string", "default": ""}])
    register(client, Subject(topic=topic, message_type=LedgerPosted))
    register(client, Subject(topic=topic, message_type=later))
    remote = RemoteRegistry(infrastructure.endpoints.registry_url)
    try:
        posted = a(LedgerPosted)
        written = Codec(remote).encode(topic, a(later, **posted.to_record()))
        assert Codec(remote).decode(written) == posted
    finally:
        remote.close()


def test_a_schema_that_was_never_deployed_is_named(infrastructure: Stack) -> None:
    remote = RemoteRegistry(infrastructure.endpoints.registry_url)
    try:
        with pytest.raises(LookupError, match=r"No schema for nowhere\.events-baraza\.ledger\.LedgerPosted"):
            Codec(remote).learn("nowhere.events", [LedgerPosted])
    finally:
        remote.close()
