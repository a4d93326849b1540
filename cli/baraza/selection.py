"""A selection of sagas as an operator writes it: ``group=1a2b3c4d after=2026-11-21T10:00Z``. Pure."""

from __future__ import annotations

from typing import Any

from baraza.terminal import UsageRefusal
from chassis.values.times import rfc3339

KEYS = {
    "group": "group",
    "step": "step",
    "id": "saga_ids",
    "after": "started_after",
    "before": "started_before",
}
ALL = "all"
FORM = (
    f"Write {ALL!r}, or terms like group=1a2b3c4d, step=reserve_inventory, id=ID,REFERENCE, after=TIME, before=TIME "
    f"(of its start), separated by spaces; each narrows the selection."
)


def parse(text: str) -> dict[str, Any]:
    """Return the selection as the tracker's API takes it, with ids and references as they were typed.

    Raises UsageRefusal.
    """
    terms = text.split()
    if not terms:
        raise UsageRefusal(f"The selection is empty. {FORM}")
    if terms == [ALL]:
        return {}
    found: dict[str, Any] = {}
    for term in terms:
        key, equals, value = term.partition("=")
        if not equals or key not in KEYS or not value:
            raise UsageRefusal(f"{term!r} selects nothing. {FORM}")
        if KEYS[key] in found:
            raise UsageRefusal(f"{key} is given twice; name several sagas as id=ID,ID.")
        found[KEYS[key]] = _value(key, value)
    return found


def _value(key: str, value: str) -> Any:
    if key == "id":
        return [each for each in value.split(",") if each]
    if key not in ("after", "before"):
        return value
    try:
        return rfc3339(value).isoformat()
    except ValueError as error:
        raise UsageRefusal(f"{key}={value}: {error}.") from None
