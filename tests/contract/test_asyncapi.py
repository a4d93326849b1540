"""The AsyncAPI document of all topics: up to date, valid by the official schema, and true to the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema
from jsonschema import Draft7Validator

from messages.contract import name_of
from saga_tracker.definitions import DEFINITIONS
from stack import asyncapi, contract

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "generated" / "asyncapi.json"
OFFICIAL = Path(__file__).parent / "asyncapi" / "3.1.0.json"
"""The schema of AsyncAPI 3.1.0 that its parser uses, as @asyncapi/specs publishes it under the Apache License 2.0."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi.document()


def test_the_kept_document_is_the_contracts() -> None:
    assert PAGE.read_text() == asyncapi.text(), "Run ./baraza schemas asyncapi > docs/generated/asyncapi.json."


def flaws(document: dict[str, Any]) -> list[str]:
    validator = Draft7Validator(json.loads(OFFICIAL.read_text()))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def test_it_is_valid_by_the_schema_of_asyncapi(document: dict[str, Any]) -> None:
    assert flaws(document) == []


def test_a_flaw_is_found(document: dict[str, Any]) -> None:
    channel = document["channels"]["saga.events"]
    for broken in (
        {**document, "asyncapi": "2.6.0"},
        {**document, "channels": {"saga.events": {**channel, "adress": "saga.events"}}},
        {**document, "operations": {"x": {"action": "publish", "channel": {"$ref": "#/channels/saga.events"}}}},
    ):
        assert flaws(broken) != []


def test_every_reference_leads_to_something(document: dict[str, Any]) -> None:
    found = 0
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        found += 1
    assert found > len(document["channels"])


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [each for value in node.values() for each in references(value)]
    return [each for value in node for each in references(value)] if isinstance(node, list) else []


def test_an_operation_shows_what_it_is_for_and_what_its_messages_lead_to(document: dict[str, Any]) -> None:
    operations = document["operations"]
    assert operations["loyalty.send.loyalty.events"]["summary"] == "loyalty publishes: what has happened in loyalty."
    assert all(each["summary"] for each in operations.values())
    for saga in DEFINITIONS.values():
        for step in saga.steps:
            received = operations[f"{step.service}.receive.{step.trigger_topic}"]["description"]
            assert f"{name_of(step.trigger)} triggers {step.name} in {saga.name} version {saga.version}." in received
            if step.compensation is not None:
                commanded = operations[f"{step.service}.receive.{step.service}.commands"]["description"]
                assert f"{name_of(step.compensation.command)} undoes {step.name} in {saga.name}" in commanded
    assert "OrderConfirmed and OrderFailed end order" in operations["checkout.receive.saga.events"]["description"]
    assert "checkout reacts to ParcelArrived" in operations["checkout.receive.shipping.events"]["description"]


def test_its_server_is_of_no_deployment(document: dict[str, Any]) -> None:
    (server,) = document["servers"].values()
    assert (server["host"], list(server["variables"])) == ("{bootstrap}", ["bootstrap"])


def test_every_payload_is_avro(document: dict[str, Any]) -> None:
    messages = [each for name, each in document["components"]["messages"].items() if name != asyncapi.DEAD_LETTER]
    assert len(messages) == len({subject.message_type for subject in contract.subjects()})
    for message in messages:
        assert message["payload"]["schemaFormat"] == asyncapi.AVRO
        assert parse_schema(message["payload"]["schema"], named_schemas={})["name"] == message["name"]


def test_every_right_of_a_login_is_an_operation(document: dict[str, Any]) -> None:
    operations = {
        (each["action"], name.split(".")[0], each["channel"]["$ref"].removeprefix("#/channels/"))
        for name, each in document["operations"].items()
    }
    rights = contract.kafka_rights()
    sent = {("send", login, topic) for login, each in rights.items() for topic in each.writes}
    received = {("receive", login, topic) for login, each in rights.items() for topic in each.reads}
    assert operations == sent | received
