"""Parses and writes JSON as every service and the command line do: each member of an object has one value.

``json`` believes the last of two members, and other parsers the first. So a text in which a member is given twice means
one thing to a proxy and another to a service. It is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import jiter

from chassis.values.text import is_storable

DIGITS_MAX: Final = 400
"""As many as the largest double, and far fewer than Python refuses to parse."""
ITEMS_MAX: Final = 20_000
MEMBERS_MAX: Final = 32
"""More than any list and any object of ours. Pydantic collects the errors of all of them, and nothing else runs
meanwhile."""
FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""The form of every field of ours. A member of another form is not named: it may be personal data."""


compact: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Returns a value's JSON without spaces. ``json.dumps`` would make an encoder for each call."""


class JsonFlaw(ValueError):
    """The text has the syntax of JSON, and no one meaning. The message is a sentence for the sender."""


def parse(text: bytes | str) -> Any:
    """Return the value of a JSON text in UTF-8, with or without a byte order mark.

    Raises JsonFlaw, json.JSONDecodeError, UnicodeDecodeError, or RecursionError where it is nested too deeply.
    """
    try:
        # As fast as a parser that believes the last of two members. What it refuses is parsed again, for the reason.
        return jiter.from_json(text if isinstance(text, bytes) else text.encode(), catch_duplicate_keys=True)
    except ValueError:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        return json.loads(plain, object_pairs_hook=_members, parse_int=_integer)


def check_sizes(value: Any) -> None:
    """Raise JsonFlaw where a parsed value holds a list or an object of more entries than any request has."""
    values = [value]
    while values:
        each = values.pop()
        if isinstance(each, list):
            if len(each) > ITEMS_MAX:
                raise JsonFlaw(f"A list has {len(each)} items; no request has more than {ITEMS_MAX} in one.")
            values += each
        elif isinstance(each, dict):
            if len(each) > MEMBERS_MAX:
                raise JsonFlaw(f"An object has {len(each)} members; no request has more than {MEMBERS_MAX} in one.")
            values += each.values()


def check_texts(value: Any) -> None:
    """Raise JsonFlaw where a parsed value holds a text that PostgreSQL cannot hold, in whatever place.

    What others send may be stored: a text that cannot be would fail the transaction, and every message in it.
    """
    values = [value]
    while values:
        each = values.pop()
        if isinstance(each, str):
            if not is_storable(each):
                raise JsonFlaw("A text has a NUL character, or half of a surrogate pair; no database of ours holds it.")
        elif isinstance(each, list):
            values += each
        elif isinstance(each, dict):
            values += (*each, *each.values())


def _members(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    listed = list(pairs)
    members = dict(listed)
    if len(members) < len(listed):
        seen: set[str] = set()
        name = next(name for name, _ in listed if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        shown = f'The member "{name}"' if FIELD_NAME.fullmatch(name) else "A member of an object"
        raise JsonFlaw(f"{shown} is given twice; give each member once.")
    return members


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise JsonFlaw(f"A number has {len(digits)} digits; no field takes more than {DIGITS_MAX}.")
    return int(digits)
