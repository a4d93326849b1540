"""The schemas of a new saga's messages: its beginning, what its step publishes, its compensation, and its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from baraza.skeleton.names import Names

ENVELOPE_FROM = "saga/FenceSaga.avsc"
"""A schema whose first fields are the envelope that every message has."""
ENVELOPE_FIELDS = 6
INSTANT = {"type": "long", "logicalType": "timestamp-micros"}

Field = dict[str, Any]


def texts(names: Names) -> dict[Path, str]:
    """Return the text of each schema by its file."""
    folder = names.root / "schemas"
    envelope = json.loads((folder / ENVELOPE_FROM).read_text())["fields"][:ENVELOPE_FIELDS]
    owners = dict.fromkeys(names.own_messages, names.package) | dict.fromkeys(names.last_messages, "saga")
    return {
        folder / owners[kind] / f"{message}.avsc": _schema(owners[kind], message, doc, [*envelope, *fields])
        for kind, message in names.messages.items()
        for doc, fields in (_content(names)[kind],)
    }


def _content(names: Names) -> dict[str, tuple[str, list[Field]]]:
    """Return what each message is, with its own fields."""
    what = names.words
    return {
        "requested": (f"A {what} is requested; it starts the saga.", [_requester(), _amount()]),
        "accepted": (f"A {what} is accepted.", [_amount()]),
        "rejected": (f"A {what} is rejected; nothing was done.", [_reason("A code."), _detail()]),
        "withdraw": (f"Undo what an accepted {what} did.", _command()),
        "withdrawn": (f"What an accepted {what} did is undone.", _reply()),
        "completed": (f"A {what} is done; the last event of its saga.", [_started_at()]),
        "failed": (
            f"A {what} was not done, and nothing of it is left; the last event of its saga.",
            [_started_at(), *_failure()],
        ),
    }


def _schema(owner: str, name: str, doc: str, fields: list[Field]) -> str:
    schema = {"type": "record", "namespace": f"baraza.{owner}", "name": name, "doc": doc, "fields": fields}
    return json.dumps(schema, indent=2) + "\n"


def _requester() -> Field:
    return {"name": "requested_by", "type": "string", "doc": "The id of who requested it."}


def _amount() -> Field:
    return {"name": "amount", "type": "long", "doc": "How much is requested."}


def _reason(doc: str) -> Field:
    return {"name": "reason", "type": "string", "doc": doc}


def _detail() -> Field:
    return {"name": "detail", "type": "string", "doc": "One sentence for a person."}


def _started_at() -> Field:
    return {"name": "started_at", "type": INSTANT, "doc": "When the saga started, UTC."}


def _command() -> list[Field]:
    return [
        {"name": "step", "type": "string", "doc": "The step that it compensates."},
        {"name": "attempt", "type": "int", "doc": "Counts from 1."},
        _reason("Why the saga is compensated."),
    ]


def _reply() -> list[Field]:
    undone = "False where the step had not run and is now fenced, or had nothing to undo."
    return [
        {"name": "step", "type": "string", "doc": "The step that was compensated."},
        {"name": "undone", "type": "boolean", "doc": undone},
    ]


def _failure() -> list[Field]:
    return [
        {"name": "cause", "type": "string", "doc": "REJECTED, TIMED_OUT, CANCELLED or EXHAUSTED."},
        {"name": "step", "type": "string", "doc": "The step that failed, or was under way."},
        _reason("A code, or the words of who cancelled it."),
    ]
