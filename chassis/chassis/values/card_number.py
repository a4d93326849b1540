"""Finds card numbers where none may stand. What is published stays on Kafka, so a card number must not get that far."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

LENGTH_MIN: Final = 12
LENGTH_MAX: Final = 19
ISSUERS: Final = frozenset("23456")
"""The first digits of the numbers of payment cards (ISO/IEC 7812); 0, 1 and 7 to 9 are of other industries."""
UUID: Final = re.compile(
    r"(?<![0-9a-f])(?=[0-9-]*[a-f])[0-9a-f]{8}-?[0-9a-f]{4}-?[1-8][0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}(?![0-9a-f])",
    re.IGNORECASE,
)
"""One in a thousand has a run of digits with a valid checksum. One of digits alone is not made by chance."""
RUN: Final = re.compile(r"[0-9](?:[^0-9A-Za-z]*[0-9])*")
GROUP: Final = re.compile(r"[0-9]+")


def holds_card_number(text: str) -> bool:
    """Return whether 12 to 19 digits of the text are a card number, with or without separators.

    Digits alone are taken for one whatever they are. Beside letters, or beside more digits, the checksum decides.
    """
    plain = UUID.sub("x", "".join(_plain(letter) for letter in text))
    for run in RUN.findall(plain):
        groups = GROUP.findall(run)
        if len(run) == len(plain) and LENGTH_MIN <= sum(map(len, groups)) <= LENGTH_MAX:
            return True
        if any(map(_is_card_number, _joined(groups))):
            return True
    return False


def _plain(letter: str) -> str:
    """Return a digit of any script as an ASCII digit, and a letter that is not ASCII as ``x``."""
    digit = unicodedata.digit(letter, None) if not letter.isascii() else None
    if digit is not None:
        return str(digit)
    return "x" if letter.isalpha() and not letter.isascii() else letter


def _joined(groups: list[str]) -> Iterator[str]:
    """Yield the groups that follow one another, joined, where they have as many digits as a card number."""
    for start in range(len(groups)):
        for digits in accumulate(groups[start : start + LENGTH_MAX]):
            if len(digits) > LENGTH_MAX:
                break
            if len(digits) >= LENGTH_MIN:
                yield digits


def _is_card_number(digits: str) -> bool:
    """Return whether the digits begin as a card number does, and have its checksum (Luhn, ISO/IEC 7812-1)."""
    if digits[0] not in ISSUERS:
        return False
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[::-2])) % 10 == 0
