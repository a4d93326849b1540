"""Files on a local folder or an object store, each written whole or not at all.

The address is one of pyarrow's file systems: a path, ``file:``, ``s3:``, ``gs:`` or ``abfs:``. A local file is written
under a temporary name, and renamed once it is on the disk. An object store shows an object only when all of it is
there, and it is sent in one piece.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pyarrow.fs as pafs

TEMPORARY = ".writing-"


class Lake:
    """A folder of files. Paths are relative to it, with ``/`` between their parts."""

    def __init__(self, address: str) -> None:
        """Raises ValueError where the address is none of a known file system."""
        is_path = "://" not in address
        if is_path:
            Path(address).mkdir(parents=True, exist_ok=True)
            address = Path(address).resolve().as_uri()
        self.files, self._root = pafs.FileSystem.from_uri(address)
        self._is_local = isinstance(self.files, pafs.LocalFileSystem)

    @classmethod
    def on(cls, files: pafs.FileSystem, root: str) -> Lake:
        """Return the folder ``root`` of a file system."""
        lake = cls.__new__(cls)
        lake.files, lake._root, lake._is_local = files, root, isinstance(files, pafs.LocalFileSystem)
        return lake

    def path(self, name: str) -> str:
        """Return the path in the file system."""
        return f"{self._root.rstrip('/')}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Write a file; what was there before is there until all of this is. Raises OSError."""
        if self._is_local:
            self._replace(Path(self.path(name)), data)
            return
        with self.files.open_output_stream(self.path(name)) as stream:
            stream.write(data)

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file. Raises FileNotFoundError."""
        with self.files.open_input_stream(self.path(name)) as stream:
            found: bytes = stream.read()
        return found

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return bool(self.files.get_file_info(self.path(name)).type == pafs.FileType.File)

    def names(self, folder: str) -> list[str]:
        """Return the files below a folder, sorted; those that are being written are left out."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True, recursive=True)
        found = self.files.get_file_info(selector)
        prefix = len(self.path(""))
        names = (each.path[prefix:] for each in found if each.type == pafs.FileType.File)
        return sorted(name for name in names if TEMPORARY not in name)

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.exists(name):
            self.files.delete_file(self.path(name))
