"""Schema registries of tests: one without a server, and the stack's as a service asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from chassis.wire.codec import Codec
from chassis.wire.registry import RegistryUnavailable, RemoteRegistry, Subject
from stack import Stack
from support.waiting import until

Found = TypeVar("Found")


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


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """The stack's registry, asked again where it gave no answer, as every service does: it may close a connection."""

    remote: RemoteRegistry

    def id_of(self, subject: Subject) -> int:
        return _answered(lambda: self.remote.id_of(subject))

    def schema(self, schema_id: int) -> str | None:
        return _answered(lambda: self.remote.schema(schema_id))


def _answered(ask: Callable[[], Found]) -> Found:
    found: list[Found] = []

    def failure() -> RegistryUnavailable | None:
        try:
            found.append(ask())
        except RegistryUnavailable as unavailable:
            return unavailable
        return None

    until(failure, "the registry answers", holds=lambda missed: missed is None)
    return found[-1]


@contextmanager
def codec_of(stack: Stack) -> Iterator[Codec]:
    """Yield a codec with the stack's registry, whose connections are closed after the block."""
    remote = RemoteRegistry(stack.endpoints.registry_url)
    try:
        yield Codec(AskedAgain(remote))
    finally:
        remote.close()
