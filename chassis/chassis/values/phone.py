"""Phone numbers as people write and paste them. A carrier dials them; only what cannot be a number is refused."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from chassis.values.text import human_text

DIGITS_MIN: Final = 3
DIGITS_MAX: Final = 18
"""E.164 has at most 15; the prefix of an international call, such as 0011, may stand before them."""
SCHEME: Final = "tel:"
EXTENSION: Final = re.compile(r"[\s,;]*(?:ext=|extension|extn?\.?|x\.?|#|,)[:\s]*[0-9]{1,8}$", re.IGNORECASE)
PLAIN: Final = re.compile(r"[+(]?[0-9](?:[0-9 ()./-]*[0-9])?")
"""As nearly every number is written."""
SIGNS: Final = re.compile(r"\+?[\s0-9()./\-]+")
DASHES: Final = re.compile("[\u2010-\u2015\u2212\u30fc]")


def phone(text: str, *, length_max: int) -> str:
    """Return a phone number without blanks and invisible marks around it. Raises ValueError with what is wrong."""
    if PLAIN.fullmatch(text) and DIGITS_MIN <= sum(map(str.isdigit, text)) <= DIGITS_MAX and len(text) <= length_max:
        return text
    shown = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    found = human_text(shown, length_max=length_max)
    number = DASHES.sub("-", unicodedata.normalize("NFKC", found))
    number = EXTENSION.sub("", _plain_digits(number.removeprefix(SCHEME)))
    count = sum(map(str.isdigit, number))
    if not SIGNS.fullmatch(number) or not DIGITS_MIN <= count <= DIGITS_MAX:
        raise ValueError("Not a phone number; send digits, with + before the country's code, such as +1 503 555 0100")
    return found


def _plain_digits(text: str) -> str:
    return "".join(str(unicodedata.digit(letter, letter)) for letter in text)
