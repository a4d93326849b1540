"""Merchants' API keys: ``sk_live_…`` and ``sk_test_…``. Only a digest is stored, so a key is shown once."""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_LENGTH: Final = 40
"""238 bits: a digest without salt is enough for what no one can guess."""
CHECK_LENGTH: Final = 6
"""Of a checksum at the end, so that a mistyped or invented key costs no look into the database."""
HINT_LENGTH: Final = 4
KEY: Final = re.compile(rf"sk_(live|test)_[0-9A-Za-z]{{{SECRET_LENGTH + CHECK_LENGTH}}}")
PREFIX: Final = "sk_"


def new_key(*, is_live: bool) -> str:
    """Return a new key."""
    start = f"{PREFIX}{'live' if is_live else 'test'}_"
    secret = "".join(secrets.choice(ALPHABET) for _ in range(SECRET_LENGTH))
    return start + secret + _checksum(start + secret)


def is_well_formed(key: str) -> bool:
    """Return whether it may be a key of ours: its form and its checksum."""
    return KEY.fullmatch(key) is not None and _checksum(key[:-CHECK_LENGTH]) == key[-CHECK_LENGTH:]


def digest_of(key: str) -> bytes:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).digest()


def hint_of(key: str) -> str:
    """Return the letters by which people know a key."""
    return key[-HINT_LENGTH:]


def _checksum(text: str) -> str:
    value, letters = zlib.crc32(text.encode()), ""
    for _ in range(CHECK_LENGTH):
        value, rest = divmod(value, len(ALPHABET))
        letters += ALPHABET[rest]
    return letters
