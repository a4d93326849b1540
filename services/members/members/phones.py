"""Phone numbers of members: twelve digits, however people write them, and the hash by which a payer is known. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from typing import Final

SEPARATORS: Final = re.compile(r"[\s().\-\u2010-\u2015\u2212]")
FORMS: Final = re.compile(r"(?:\+?254|0)?([17][0-9]{8})")
"""07…, 01…, 7…, 1…, 254… and +254…; nine digits of the subscriber follow the country's code."""
EXPECTED: Final = "Not a mobile number of Kenya; send it as 254712345678, 0712345678 or +254 712 345 678"


def normal_phone(text: str) -> str:
    """Return the twelve digits of a phone number. Raises ValueError with what is wrong, without the number itself."""
    plain = SEPARATORS.sub("", unicodedata.normalize("NFKC", text))
    found = FORMS.fullmatch(plain) if plain.isascii() else None
    if found is None:
        raise ValueError(EXPECTED)
    return f"254{found[1]}"


def hash_of(phone: str, key: bytes) -> str:
    """Return the keyed hash of a phone of twelve digits.

    It is of the phone's SHA-256 in small hexadecimal digits, as one provider hashes payers' numbers: both a clear
    number and a hashed one lead to it.
    """
    plain = hashlib.sha256(phone.encode()).hexdigest()
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


def shown_phone(phone: str) -> str:
    """Return a phone for people who need not dial it: its first five and its last three digits."""
    return f"{phone[:5]}****{phone[-3:]}"
