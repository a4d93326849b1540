"""Finds the saga that a person means: by its id, or by a number in hand, of a payment or a shipment for example.

Also finds the sagas that refer to another one, such as the returns of an order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from baraza.terminal import Refusal, UsageRefusal
from chassis.values.ids import ULID, canonical

LENGTH_MAX = 128
LISTED_MAX = 20


class Tracker(Protocol):
    """What is needed of the tracker's API."""

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Any: ...


def referring(tracker: Tracker, saga_id: str) -> list[dict[str, Any]]:
    """Return the sagas that have this one's id as a reference, the newest first: the returns of an order."""
    return [each for each in _referring(tracker, saga_id) if each["saga_id"] != saga_id]


def selected(tracker: Tracker, selection: Mapping[str, Any]) -> dict[str, Any]:
    """Return a selection of sagas with the ids of those that it names by a reference. Raises UsageRefusal."""
    if "saga_ids" not in selection:
        return dict(selection)
    return {**selection, "saga_ids": [saga_of(tracker, each) for each in selection["saga_ids"]]}


def named(text: str, connect: Callable[[], AbstractContextManager[Tracker]]) -> str:
    """Return the id of the saga that a text names. No tracker is needed for an id."""
    if ULID.fullmatch(text.strip()):
        return canonical(text.strip())
    with connect() as tracker:
        return saga_of(tracker, text)


def saga_of(tracker: Tracker, text: str) -> str:
    """Return the id of the saga that a text names. Raises UsageRefusal where none has it, or lists several that do."""
    found = sagas_of(tracker, text)
    if len(found) > 1:
        lines = "\n".join(
            f"  {each['saga_id']}  {each['type']}  {each['state']}  {each['started_at']}" for each in found
        )
        raise UsageRefusal(f"{text.strip()!r} is a reference of several sagas; give the id of one:\n{lines}")
    saga_id: str = found[0]["saga_id"]
    return saga_id


def sagas_of(tracker: Tracker, text: str) -> list[dict[str, Any]]:
    """Return the sagas that a text names, the newest first. Raises UsageRefusal where none has it.

    An id is taken as it is, so that a saga is found whose first message has not reached the tracker yet; of it nothing
    else is known then.
    """
    name = text.strip()
    if ULID.fullmatch(name):
        return [{"saga_id": canonical(name)}]
    if not name or len(name) > LENGTH_MAX or not name.isprintable():
        raise UsageRefusal(f"{text!r} is neither an id, which looks like 01JCZ3K8T0ABCDEFGHJKMNPQRS, nor a reference.")
    found = _referring(tracker, name)
    if not found:
        raise UsageRefusal(
            f"No saga has the id or the reference {name!r}. References match exactly: capitals and small letters "
            f"differ. A saga's references are shown by its messages: the number of a payment, a shipment or a parcel."
        )
    return found


def _referring(tracker: Tracker, reference: str) -> list[dict[str, Any]]:
    """Return the sagas that have this reference, the newest first. Raises Refusal where the answer has none."""
    found = tracker.get("/v1/sagas", {"reference": reference, "limit": LISTED_MAX})["sagas"]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Refusal("The tracker does not answer with a list of sagas. Run ./baraza status.")
    return found
