"""A schema registry without a server."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.wire.registry import Subject


@dataclass(slots=True)
class Shelf:
    """A registry in memory, behind the codec's port: ids in the order in which they are requested."""

    schemas: list[str] = field(default_factory=list)

    def id_of(self, subject: Subject) -> int:
        return self.put(subject.message_type.SCHEMA)

    def schema(self, schema_id: int) -> str | None:
        return self.schemas[schema_id - 1] if 0 < schema_id <= len(self.schemas) else None

    def put(self, schema: str) -> int:
        self.schemas.append(schema)
        return len(self.schemas)
