"""Write the message classes from the ``.avsc`` files: ``python -m messages.generate [--check]``.

The ``.avsc`` files are the source; the generated modules are committed and a test pins them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parent.parent
PACKAGE = Path(__file__).resolve().parent
ENVELOPE = ("message_id", "saga_id", "saga_type", "saga_version", "causation_id", "occurred_at")
GENERATOR = "python -m messages.generate"
PRIMITIVES = {"string": "str", "int": "int", "long": "int", "boolean": "bool", "double": "float", "bytes": "bytes"}

Schema = dict[str, Any]


def read_schemas(root: Path = SCHEMAS) -> dict[str, Schema]:
    """Return every schema under ``schemas/<owner>/`` by full name. Raises ValueError for a file whose name lies."""
    schemas: dict[str, Schema] = {}
    for path in sorted(root.glob("*/*.avsc")):
        schema = json.loads(path.read_text())
        full_name = f"{schema['namespace']}.{schema['name']}"
        expected = f"baraza.{path.parent.name}.{path.stem}"
        if full_name != expected:
            raise ValueError(f"{path} holds {full_name}; name the file and folder after it, or the schema {expected}.")
        schemas[full_name] = schema
    return schemas


def expand(schema: Any, schemas: dict[str, Schema], seen: set[str] | None = None) -> Any:
    """Return the schema with every named type written out where it is first used, so that it stands alone."""
    seen = set() if seen is None else seen
    if isinstance(schema, str):
        if schema in schemas and schema not in seen:
            return expand(schemas[schema], schemas, seen)
        return schema
    if isinstance(schema, list):
        return [expand(branch, schemas, seen) for branch in schema]
    if schema.get("type") == "record":
        seen.add(f"{schema['namespace']}.{schema['name']}")
        parts = [{**field, "type": expand(field["type"], schemas, seen)} for field in schema["fields"]]
        return {**schema, "fields": parts}
    if schema.get("type") == "array":
        return {**schema, "items": expand(schema["items"], schemas, seen)}
    return schema


def is_message(schema: Schema) -> bool:
    """A record is a message when it carries the envelope."""
    return {field["name"] for field in schema["fields"]}.issuperset(ENVELOPE)


def service_of(schema: Schema) -> str:
    """Return the service that owns a record. A namespace of Avro has an underscore where a service has a hyphen."""
    owner: str = schema["namespace"].rpartition(".")[2]
    return owner.replace("_", "-")


def python_type(avro: Any) -> str:
    """Return the Python annotation of an Avro type. Raises ValueError for a type that no message uses yet."""
    if isinstance(avro, str):
        return PRIMITIVES.get(avro) or avro.rpartition(".")[2]
    if isinstance(avro, list) and len(avro) == 2 and avro[0] == "null":
        return f"{python_type(avro[1])} | None"
    if isinstance(avro, dict) and avro["type"] == "array":
        return f"tuple[{python_type(avro['items'])}, ...]"
    if isinstance(avro, dict) and avro.get("logicalType") == "timestamp-micros":
        return "datetime"
    raise ValueError(f"No Python type for Avro's {avro!r}; add it to messages/generate.py.")


def _nested(avro: Any) -> str | None:
    if isinstance(avro, str) and avro.startswith("baraza."):
        return avro
    return _nested(avro["items"]) if isinstance(avro, dict) and avro["type"] == "array" else None


def _read(name: str, avro: Any) -> str:
    value = f'record["{name}"]'
    if isinstance(avro, str):
        return f"{python_type(avro)}.from_record({value})" if _nested(avro) else value
    if isinstance(avro, dict) and avro["type"] == "array":
        items = f"{python_type(avro['items'])}.from_record(item) for item in {value}"
        return f"tuple([{items}])" if _nested(avro) else f"tuple({value})"
    return value


def _write(name: str, avro: Any) -> str:
    value = f"self.{name}"
    if isinstance(avro, str):
        return f"{value}.to_record()" if _nested(avro) else value
    if isinstance(avro, dict) and avro["type"] == "array" and _nested(avro):
        return f"[item.to_record() for item in {value}]"
    return value


def class_source(schema: Schema, schemas: dict[str, Schema]) -> str:
    """Return the Python source of one record's class."""
    name, full_name = schema["name"], f"{schema['namespace']}.{schema['name']}"
    message = is_message(schema)
    own = [field for field in schema["fields"] if not (message and field["name"] in ENVELOPE)]
    parent = "Message" if message else "Record"
    lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {name}({parent}):"]
    lines += [f'    """{schema["doc"]}"""', "", f'    FULL_NAME: ClassVar[str] = "{full_name}"']
    if message:
        expanded = json.dumps(expand(schema, schemas), separators=(",", ":"))
        lines += [f'    OWNER: ClassVar[str] = "{service_of(schema)}"']
        lines += [f"    SCHEMA: ClassVar[str] = {expanded!r}"]
    lines += [""] + [f"    {field['name']}: {python_type(field['type'])}" for field in own]
    fields = [(field["name"], field["type"]) for field in schema["fields"]]
    lines += ["", "    @classmethod", f"    def from_record(cls, record: dict[str, Any]) -> {name}:"]
    lines += ["        return cls("]
    lines += [f"            {field}={_read(field, avro)}," for field, avro in fields]
    lines += ["        )", "", "    def to_record(self) -> dict[str, Any]:", "        return {"]
    lines += [f'            "{field}": {_write(field, avro)},' for field, avro in fields]
    return "\n".join([*lines, "        }"])


def module_source(owner: str, schemas: dict[str, Schema]) -> str:
    """Return the generated module of one owner's records."""
    own = [schema for schema in schemas.values() if schema["namespace"] == f"baraza.{owner}"]
    own.sort(key=is_message)
    imported: dict[str, set[str]] = {}
    for schema in own:
        for field in schema["fields"]:
            nested = _nested(field["type"])
            if nested and (other := nested.split(".")[1]) != owner:
                imported.setdefault(other, set()).add(nested.rpartition(".")[2])
    local = [f"from messages.{other} import {', '.join(sorted(names))}" for other, names in imported.items()]
    contract = ["Message"] + (["Record"] if not is_message(own[0]) else [])
    head = [f'"""The messages of {owner}. Generated by ``{GENERATOR}``; change the .avsc files instead."""']
    head += ["", "from __future__ import annotations", "", "from dataclasses import dataclass"]
    head += ["from datetime import datetime", "from typing import Any, ClassVar", ""]
    head += [*sorted([*local, f"from messages.contract import {', '.join(contract)}"]), "", ""]
    return "\n".join(head) + "\n\n\n".join(class_source(schema, schemas) for schema in own) + "\n"


def catalogue_source(schemas: dict[str, Schema]) -> str:
    """Return the generated package face: every message type by its full name."""
    by_owner: dict[str, list[str]] = {}
    for schema in schemas.values():
        if is_message(schema):
            by_owner.setdefault(schema["namespace"].rpartition(".")[2], []).append(schema["name"])
    head = [f'"""Every message of the system by its full name. Generated by ``{GENERATOR}``."""', ""]
    head += ["from __future__ import annotations", ""]
    head += [f"from messages import {', '.join(sorted(by_owner))}", "from messages.contract import Message", ""]
    head += ["MESSAGES: dict[str, type[Message]] = {", "    message_type.FULL_NAME: message_type"]
    head += ["    for message_type in ("]
    head += [f"        {owner}.{name}," for owner, names in sorted(by_owner.items()) for name in sorted(names)]
    return "\n".join([*head, "    )", "}", ""])


def sources(root: Path = SCHEMAS) -> dict[Path, str]:
    """Return the text of every generated file by path."""
    schemas = read_schemas(root)
    owners = sorted({schema["namespace"].rpartition(".")[2] for schema in schemas.values()})
    files = {PACKAGE / f"{owner}.py": module_source(owner, schemas) for owner in owners}
    return {**files, PACKAGE / "catalogue.py": catalogue_source(schemas)}


def main() -> int:
    """Write the files, or with --check only compare them. Exit status 1 when they are not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    stale = [path for path, text in sources().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if not check:
            path.write_text(sources()[path])
        sys.stdout.write(f"{'stale' if check else 'written'}: {path.relative_to(SCHEMAS.parent)}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
