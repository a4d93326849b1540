"""The message types' common shape and the registry of them all; it knows no service and does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, TypedDict, TypeVar


class Envelope(TypedDict):
    """What every message carries besides its own fields; unpack it: ``InventoryReserved(**envelope, lines=…)``."""

    message_id: str
    saga_id: str
    saga_type: str
    saga_version: int
    causation_id: str | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A part of a message that is not a message itself (an order's line, an address)."""

    FULL_NAME: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event or a command. Every message carries this envelope in its payload.

    ``occurred_at`` is an aware UTC time; ``causation_id`` is None where a request from outside caused the message.
    """

    FULL_NAME: ClassVar[str]
    OWNER: ClassVar[str]
    SCHEMA: ClassVar[str]

    message_id: str
    saga_id: str
    saga_type: str
    saga_version: int
    causation_id: str | None
    occurred_at: datetime

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Message:
        """Build the message from fastavro's dictionary; generated for each class."""
        raise NotImplementedError

    def to_record(self) -> dict[str, Any]:
        """Return the dictionary that fastavro writes; generated for each class."""
        raise NotImplementedError


MessageType = TypeVar("MessageType", bound=Message)

ENVELOPE_FIELDS = tuple(field.name for field in fields(Message))


def name_of(message_type: type[Message]) -> str:
    """Return the message's name without its namespace, as people and headers say it."""
    return message_type.FULL_NAME.rpartition(".")[2]
