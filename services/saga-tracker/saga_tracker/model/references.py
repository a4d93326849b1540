"""Numbers that people have in hand, by which a saga is found: a payment's, a shipment's, a receipt's. Pure.

A personal one (a telephone number) is never stored: its keyed hash is, so that who reads the table learns none.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from messages.contract import Message
from messages.saga import StepAwaited
from saga_tracker.model.saga import ReferenceDefinition, SagaDefinition

LENGTH_MAX = 128
"""A longer value is no number that a person has in hand."""
HASHED = "hmac:"
"""Before the hash of a personal reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One number of a saga, as it is stored."""

    saga_id: str
    kind: str
    value: str


def references_of(definition: SagaDefinition, message: Message, key: bytes | None) -> Iterator[Reference]:
    """Yield the references that a message of the saga carries. Without a key, personal ones are left out."""
    if isinstance(message, StepAwaited):
        yield from _of_awaited(definition, message)
    for each in _by_event(definition).get(type(message), ()):
        text = _text_of(getattr(message, each.field))
        if text is None or (each.is_personal and key is None):
            continue
        stored = hashed(text, key) if each.is_personal and key is not None else text
        yield Reference(saga_id=message.saga_id, kind=each.kind, value=stored)


def _of_awaited(definition: SagaDefinition, message: StepAwaited) -> Iterator[Reference]:
    """Yield the number that the provider of a step gave its attempt. That of an undo's attempt is of another kind."""
    step = next((each for each in definition.steps if each.name == message.step), None)
    kind = None if step is None or step.awaited is None or message.undo else step.awaited.reference
    text = _text_of(message.reference)
    if kind is not None and text is not None:
        yield Reference(saga_id=message.saga_id, kind=kind, value=text)


def _text_of(value: object) -> str | None:
    """Return the value as it is stored; None where it is no number that a person has in hand."""
    text = "" if value is None else str(value).strip().replace("\x00", "")
    return text if 0 < len(text) <= LENGTH_MAX else None


def hashed(text: str, key: bytes) -> str:
    """Return a personal reference as it is stored, the same for every form of writing it that differs in blanks."""
    return HASHED + hmac.new(key, "".join(text.split()).encode(), hashlib.sha256).hexdigest()


def stored_forms(text: str, key: bytes | None) -> frozenset[str]:
    """Return the values under which a reference may be stored that a person typed."""
    typed = text.strip()
    if typed.startswith(HASHED):
        return frozenset()  # Who has read the table must not find a saga by it.
    return frozenset({typed} if key is None else {typed, hashed(typed, key)})


@cache
def _by_event(definition: SagaDefinition) -> dict[type[Message], tuple[ReferenceDefinition, ...]]:
    found: dict[type[Message], tuple[ReferenceDefinition, ...]] = {}
    for each in definition.references:
        found[each.event] = (*found.get(each.event, ()), each)
    return found
