"""Lists as PostgreSQL's binary arrays, for the lists that batches send: one type, no nesting, perhaps with None.

psycopg inspects every element on its own; here a list is written in one pass. Any other list is left to psycopg.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from psycopg.abc import Buffer, DumperKey, PyFormat
from psycopg.adapt import Dumper, RecursiveDumper
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Engine, event

HEADER = struct.Struct("!iiIii")
"""The number of dimensions, whether an element is null, the type of the elements, their number, the first index."""
LENGTH = struct.Struct("!i").pack
WHOLE_NUMBER = struct.Struct("!iq").pack
LENGTHS = tuple(LENGTH(length) for length in range(256))
"""The encoded lengths of short values: ids, states, topics."""
NULL = LENGTH(-1)
TRUE, FALSE = LENGTH(1) + b"\x01", LENGTH(1) + b"\x00"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROS_PER_S, S_PER_DAY = 1_000_000, 86_400

Element: TypeAlias = Callable[[Any], bytes]


def _text(element: str) -> bytes:
    encoded = element.encode()
    length = len(encoded)
    return (LENGTHS[length] if length < len(LENGTHS) else LENGTH(length)) + encoded


def _bytes(element: bytes) -> bytes:
    return LENGTH(len(element)) + element


def _whole_number(element: int) -> bytes:
    return WHOLE_NUMBER(8, element)


def _flag(element: bool) -> bytes:
    return TRUE if element else FALSE


def _time(element: datetime) -> bytes:
    since = element - EPOCH
    return WHOLE_NUMBER(8, (since.days * S_PER_DAY + since.seconds) * MICROS_PER_S + since.microseconds)


KINDS: dict[type, tuple[int, int, Element]] = {
    str: (1009, 25, _text),
    bytes: (1001, 17, _bytes),
    int: (1016, 20, _whole_number),
    bool: (1000, 16, _flag),
    datetime: (1185, 1184, _time),
}
"""The oids of the array and of its elements, and the function that writes an element.

Whole numbers are sent as bigint; statements cast them to the type of their column.
"""


class ArrayDumper(RecursiveDumper):
    """Dumps a list of one of KINDS, with None anywhere in it."""

    format = Format.BINARY

    def get_key(self, obj: list[Any], format: PyFormat) -> DumperKey:  # noqa: A002 - psycopg's own name
        kind = _kind(obj)
        return (self.cls,) if kind is None else (self.cls, kind)

    def upgrade(self, obj: list[Any], format: PyFormat) -> Dumper:  # noqa: A002
        kind = _kind(obj)
        if kind is None or kind not in KINDS:
            # Not one of KINDS: an empty list, only None, a list of lists, or a type of a service.
            return ListBinaryDumper(self.cls, self._tx).upgrade(obj, format)
        dumper = type(self)(self.cls, self._tx)
        dumper.oid, dumper._element_oid, dumper._element = KINDS[kind]
        return dumper

    _element_oid: int
    _element: Element

    def dump(self, obj: list[Any]) -> Buffer:
        element, count = self._element, len(obj)
        has_none = None in obj
        if has_none:
            written = b"".join([NULL if each is None else element(each) for each in obj])
        elif obj.count(obj[0]) == count:  # most columns of a batch hold one value: a topic, a type, a state
            written = element(obj[0]) * count
        else:
            written = b"".join(map(element, obj))
        return HEADER.pack(1, has_none, self._element_oid, count, 1) + written


def _kind(obj: list[Any]) -> type | None:
    for element in obj:
        if element is not None:
            return type(element)
    return None


def send_in_binary(engine: Engine) -> None:
    """Let every connection of this engine send lists as :class:`ArrayDumper` writes them."""

    @event.listens_for(engine, "connect")
    def register(connection: Any, _record: Any) -> None:
        connection.adapters.register_dumper(list, ArrayDumper)
