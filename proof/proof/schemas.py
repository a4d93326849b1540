"""The schema registry in memory: every message of ours is registered for every topic."""

from __future__ import annotations

from functools import cache

from chassis.wire.codec import Codec
from chassis.wire.registry import Subject
from messages.catalogue import MESSAGES


class LocalRegistry:
    """Each message type has its position in the catalogue as its id."""

    def __init__(self) -> None:
        self._names = sorted(MESSAGES)

    def id_of(self, subject: Subject) -> int:
        """Return the id of the subject's message type."""
        return self._names.index(subject.message_type.FULL_NAME) + 1

    def schema(self, schema_id: int) -> str | None:
        """Return the schema of that id."""
        return MESSAGES[self._names[schema_id - 1]].SCHEMA if 1 <= schema_id <= len(self._names) else None


@cache
def shared_codec() -> Codec:
    """Return one codec for all schedules. It caches schemas only, and to fetch them takes a twentieth of a schedule."""
    return Codec(LocalRegistry())
