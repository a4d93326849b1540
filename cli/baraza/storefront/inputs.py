"""Input files that are read twice: once to check all of it, once to send it. A pipe is copied to a file first."""

from __future__ import annotations

import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from baraza.storefront.tabular import unreadable
from baraza.terminal import UsageRefusal

STDIN = Path("-")
COPY_BYTES_MAX = 4 << 30
"""More than the largest file of orders there is; a device without an end stops here."""
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What is read: the name for messages, and the file that can be opened as often as needed."""

    name: str
    path: Path


@contextmanager
def rereadable(path: Path) -> Iterator[Input]:
    """Yield the input that ``path`` names; ``-`` is stdin. Raises UsageRefusal where it cannot be read."""
    if path != STDIN and _is_regular(path):
        yield Input(name=str(path), path=path)
        return
    with tempfile.NamedTemporaryFile() as copy:
        try:
            with path.open("rb") if path != STDIN else sys.stdin.buffer as source:
                _copy(source, copy, path)
        except OSError as error:
            raise unreadable(path, error) from error
        yield Input(name=str(path), path=Path(copy.name))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise unreadable(path, error) from error


def _copy(source: BinaryIO, target: IO[bytes], path: Path) -> None:
    left = COPY_BYTES_MAX
    while chunk := source.read(CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise UsageRefusal(
                f"{path} holds more than {COPY_BYTES_MAX >> 30} GiB; write them into a file, or several."
            )
        target.write(chunk)
    target.flush()
