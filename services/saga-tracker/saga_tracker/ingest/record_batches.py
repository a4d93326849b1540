"""Reads the record batches of Kafka's answers, also those with a header whose name is not UTF-8.

aiokafka raises on such a batch and fetches it again, for ever. Kafka accepts the name, so a batch of that kind
is read a second time with the undecodable bytes escaped. All others take aiokafka's way, which is compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

from aiokafka.consumer import fetcher  # type: ignore[import-untyped]
from aiokafka.errors import CorruptRecordException  # type: ignore[import-untyped]
from aiokafka.record.default_records import _DefaultRecordBatchPy  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]
from aiokafka.record.util import decode_varint_py  # type: ignore[import-untyped]

LENGTH = struct.Struct(">8xi")
"""Every batch begins with its first offset and the number of bytes that follow."""
DEFAULT_MAGIC = 2
"""The first format with headers."""


def install() -> None:
    """Let aiokafka's fetchers read the answers of Kafka through this module, in this process."""
    vars(fetcher)["MemoryRecords"] = RecordBatches


class RecordBatches:
    """The batches of one partition in one answer, as aiokafka's fetcher takes them."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._next = 0
        self._batches = MemoryRecords(answer)
        self.size_in_bytes = self._batches.size_in_bytes
        self.has_next = self._batches.has_next

    def next_batch(self) -> Any:
        """Return the next batch, None after the last one."""
        batch = self._batches.next_batch()
        if batch is None:
            return None
        begin = self._next
        self._next = begin + LENGTH.size + LENGTH.unpack_from(self._answer, begin)[0]
        is_default = self._answer[begin + LENGTH.size + 4] >= DEFAULT_MAGIC
        return _Batch(batch, memoryview(self._answer)[begin : self._next]) if is_default else batch


class _Batch:
    """A batch of aiokafka that falls back on the tolerant reading."""

    def __init__(self, batch: Any, buffer: memoryview) -> None:
        self._batch = batch
        self._buffer = buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            records = list(self._batch)
        except (CorruptRecordException, UnicodeDecodeError):
            records = read_escaped(self._buffer)
        return iter(records)


def read_escaped(buffer: memoryview) -> list[Any]:
    """Return the records of a batch; bytes of a header's name that are not UTF-8 are escaped.

    Raises CorruptRecordException for one that is corrupt.
    """
    batch: Any = _DefaultRecordBatchPy(buffer)
    batch._maybe_uncompress()
    batch._buffer = _Escaping(batch._buffer)
    batch._read_msg = partial(batch._read_msg, decode_varint_py)
    return list(batch)


class _Escaping(bytearray):
    """Bytes whose slices decode with escapes: aiokafka decodes nothing but the names of headers."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Escaping(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
