"""Encrypts the secrets of merchants' endpoints, so that a copy of the database alone signs nothing."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class NoKey(Exception):
    """There is no key for the secrets of endpoints. Set BARAZA_WEBHOOK_KEY_FILE to a file with one a line."""


class SealBroken(Exception):
    """A secret was encrypted with none of the keys in the file. Add the key that was taken out of it too early."""


class Sealing:
    """The keys of a file, one a line: the first one encrypts, and each of them decrypts."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    @property
    def is_configured(self) -> bool:
        """Return whether there is a file of keys."""
        return self._file is not None

    def seal(self, secret: str) -> bytes:
        """Return a secret as it is stored. Raises NoKey."""
        return self._keys().encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        """Return a secret that was stored. Raises NoKey or SealBroken."""
        try:
            return self._keys().decrypt(sealed).decode()
        except InvalidToken:
            raise SealBroken("A secret of an endpoint was encrypted with none of the keys in the file.") from None

    def _keys(self) -> MultiFernet:
        """Return the keys, read anew each time, so that one can be added while the process runs."""
        lines = [] if self._file is None else self._file.read_text().split()
        if not lines:
            raise NoKey("There is no key for the secrets of endpoints; set BARAZA_WEBHOOK_KEY_FILE.")
        digests = (hashlib.sha256(line.encode()).digest() for line in lines)
        return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
