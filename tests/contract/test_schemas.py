"""The wire contract: generated classes are current, and the current schemas are compatible with every released one.

``history/<release>/`` keeps each release's schemas as they were; a released file is never changed.
The rules here are Avro's own: fastavro writes data with one schema and reads it with the other. A real registry refuses
incompatible schemas in tests/integration/test_registry.py.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastavro
import fastavro.schema
import pytest
from fastavro.utils import generate_many

from chassis.wire.registry import EVENT_COMPATIBILITY, Subject
from messages.catalogue import MESSAGES
from messages.generate import SCHEMAS, expand, read_schemas
from stack import contract

HISTORY = Path(__file__).parent / "history"
RELEASES = sorted(HISTORY.iterdir())
RELEASED = [(release, path) for release in RELEASES for path in sorted(release.glob("*/*.avsc"))]
EXAMPLES = 20


def released(release: Path, full_name: str) -> Any:
    """Return a released schema with the types that it refers to."""
    schemas = read_schemas(release)
    return expand(schemas[full_name], schemas)


def can_read(writer: Any, reader: Any) -> str:
    """Return why one schema cannot read the other's data, an empty text where it can."""
    writing, reading = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    for record in generate_many(writing, EXAMPLES):
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, writing, record)
        buffer.seek(0)
        try:
            fastavro.schemaless_reader(buffer, writing, reading)
        except (fastavro.schema.SchemaParseException, fastavro.read.SchemaResolutionError) as error:
            return str(error)
    return ""


def test_generated_classes_are_current() -> None:
    command = [sys.executable, "-m", "messages.generate", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_release_to_compare_with() -> None:
    assert RELEASES, f"{HISTORY} is empty; copy schemas/ of the first release there."


@pytest.mark.parametrize(("release", "path"), RELEASED, ids=[f"{r.name}-{p.stem}" for r, p in RELEASED])
def test_a_schema_is_compatible_with_every_released_version_of_itself(release: Path, path: Path) -> None:
    full_name = f"baraza.{path.parent.name}.{path.stem}"
    schemas = read_schemas()
    assert full_name in schemas, f"{full_name} was released in {release.name}: messages are kept, not deleted."
    now, then = expand(schemas[full_name], schemas), released(release, full_name)
    assert not (why := can_read(then, now)), f"Today's {full_name} cannot read {release.name}'s: {why}"
    is_event = full_name not in MESSAGES or is_on_events(full_name)
    if is_event:
        assert not (why := can_read(now, then)), f"{release.name}'s {full_name} cannot read today's: {why}"


def is_on_events(full_name: str) -> bool:
    """An event is read by other consumers, whose release may be older than ours."""
    topics = [subject for subject in contract.subjects() if full_name == subject.message_type.FULL_NAME]
    return any(subject.compatibility == EVENT_COMPATIBILITY for subject in topics)


def test_the_comparison_finds_an_added_field_without_a_default() -> None:
    now = json.loads(MESSAGES["baraza.ledger.LedgerPosted"].SCHEMA)
    changed = {**now, "fields": [*now["fields"], {"name": "rate", "type": "long"}]}
    assert "default" in can_read(now, changed)
    assert can_read(changed, now) == ""


def test_a_schema_is_in_the_folder_of_its_owner() -> None:
    owners = {path.parent.name for path in SCHEMAS.glob("*/*.avsc")}
    assert {contract.package_of(message_type.OWNER) for message_type in MESSAGES.values()} == owners
    for subject in (Subject(topic="t", message_type=each) for each in MESSAGES.values()):
        assert subject.name == f"t-{subject.message_type.FULL_NAME}"
