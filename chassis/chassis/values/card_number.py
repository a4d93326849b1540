"""Finds card numbers where none may stand. What is published stays on Kafka, so a card number must not get that far.

The cost is linear in the text. Most texts have too few digits and are left after one pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Final

from chassis.values.text import IGNORABLE

LENGTH_MIN: Final = 12
PRINTED_LENGTH_MIN: Final = 14
"""Shorter numbers are not printed in groups; a phone number and a pair of coordinates are."""
PRINTED: Final = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3)})
"""The groups in which card numbers are printed; then several kinds of separators may stand between them."""
PHONE_LENGTH_MAX: Final = 15
"""The most digits that may follow the + of a phone number (E.164)."""

NOT_DIGITS: Final = bytes(set(range(256)) - set(b"0123456789"))
HEX: Final = re.compile(r"[0-9a-f](?:-?[0-9a-f]){23,}", re.IGNORECASE)
"""24 hexadecimal digits or more: a UUID, a digest. One UUID in a thousand has a run of digits with a valid checksum."""
RUN: Final = re.compile(r"\+?[0-9](?:[^0-9A-Za-z+]*[0-9]){11,}")
"""Digits and what may separate them: anything but letters, and the + of the next phone number."""
PLUS_BETWEEN: Final = re.compile(r"(?<=[0-9])(?:\+| \+ )(?=[0-9])")
"""The + between the groups of one number. The one of a phone number has nothing, or a blank alone, before it."""
ALONE: Final = re.compile(r"[^0-9A-Za-z]*(?:[0-9][^0-9A-Za-z]*){12,19}")
LETTER: Final = re.compile("[A-Za-z]")
PART: Final = re.compile(r"([0-9]+)([^0-9]*)")
DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""Twice a digit, cast out nines: what the checksum adds for every second digit."""


def _range(first: int, last: int, *lengths: int) -> tuple[str, str, frozenset[int]]:
    return str(first), str(last), frozenset(lengths)


ISSUERS: Final = (
    _range(4, 4, 13, 16, 19),  # Visa
    _range(51, 55, 16),  # Mastercard
    _range(2221, 2720, 16),
    _range(34, 34, 15),  # American Express
    _range(37, 37, 15),
    _range(300, 305, 14, 16, 19),  # Diners Club
    _range(3095, 3095, 14, 16, 19),
    _range(36, 36, 14, 16, 19),
    _range(38, 39, 14, 16, 19),
    _range(3528, 3589, 16, 17, 18, 19),  # JCB
    _range(6011, 6011, 16, 19),  # Discover
    _range(644, 649, 16, 19),
    _range(65, 65, 16, 19),  # Discover, RuPay, Troy, Elo
    _range(62, 62, 16, 17, 18, 19),  # UnionPay
    _range(81, 82, 16, 17, 18, 19),  # UnionPay, RuPay
    _range(50, 50, 12, 13, 14, 15, 16, 18, 19),  # Maestro, Dankort, RuPay, Verve, Elo
    _range(56, 58, 12, 13, 14, 15, 16, 18, 19),  # Maestro
    _range(60, 60, 16),  # RuPay
    _range(6304, 6304, 12, 13, 14, 15, 16, 18, 19),  # Maestro
    _range(639, 639, 12, 13, 14, 15, 16, 18, 19),
    _range(636, 638, 16, 17, 18, 19),  # InterPayment, InstaPayment, Elo
    _range(67, 67, 12, 13, 14, 15, 16, 18, 19),  # Maestro
    _range(2200, 2205, 16, 17, 18, 19),  # Mir, Borica
    _range(9704, 9704, 16, 19),  # Napas
    _range(9792, 9792, 16),  # Troy
    _range(8600, 8600, 16),  # Uzcard
    _range(9860, 9860, 16),  # Humo
)
"""The first and the last beginning of the numbers of payment cards, and how many digits those have."""

BEGINNING: Final = 4
"""As many digits as the longest beginning has."""


def text_holds_card_number(text: str, *, length_min: int = LENGTH_MIN) -> bool:
    """Return whether a card number of ``length_min`` digits or more stands in a text for people.

    One kind of separator may divide it. It begins as an issuer's numbers do, and has their length and the checksum. So
    most phone numbers, coordinates and other numbers are none.
    """
    if not has_enough_digits(text):
        return False
    plain = PLUS_BETWEEN.sub("-", HEX.sub(_without_digest, _plain(text)))
    return any(_run_holds_one(run, length_min) for run in RUN.findall(plain))


def token_holds_card_number(token: str) -> bool:
    """Return whether a payment token is, or contains, a card number, whatever separates its digits.

    Digits alone are taken for one whatever they are, also with one letter that only divides them. Beside other letters,
    the issuer and the checksum decide.
    """
    if not has_enough_digits(token):
        return False
    plain = _plain(token)
    letters = {letter for letter in plain.lower() if letter.isalpha()}
    if len(letters) <= 1 and ALONE.fullmatch(LETTER.sub("-", plain)):
        return True
    plain = PLUS_BETWEEN.sub("-", HEX.sub(_without_digest, plain))
    return any(_holds_one(PART.findall(run), LENGTH_MIN, LENGTH_MIN) for run in RUN.findall(plain))


def has_enough_digits(text: str) -> bool:
    """Return whether a text has as many digits as the shortest card number."""
    if len(text) < LENGTH_MIN:
        return False
    if text.isascii():
        return len(text.encode().translate(None, NOT_DIGITS)) >= LENGTH_MIN
    return sum(unicodedata.digit(letter, None) is not None for letter in text) >= LENGTH_MIN


def _without_digest(found: re.Match[str]) -> str:
    """Return ``x`` for hexadecimal digits among which a letter is; digits alone are not made by chance."""
    digits = found.group()
    return digits if digits.replace("-", "").isdecimal() else "x"


def _plain(text: str) -> str:
    """Return the text without invisible characters, its digits as ASCII digits, and other scripts' letters as ``x``."""
    return text if text.isascii() else "".join(map(_plain_letter, text))


def _plain_letter(letter: str) -> str:
    if letter.isascii():
        return letter
    digit = unicodedata.digit(letter, None)
    if digit is not None:
        return str(digit)
    if IGNORABLE.match(letter) or unicodedata.category(letter) in {"Cf", "Mn", "Me"}:
        return ""
    return "x" if letter.isalpha() else letter


def _run_holds_one(run: str, length_min: int) -> bool:
    parts = PART.findall(run)
    first_min = max(length_min, PHONE_LENGTH_MAX + 1) if run.startswith("+") else length_min
    return _holds_printed_one([digits for digits, _ in parts]) or any(
        _holds_one(each, length_min if index else first_min, length_min)
        for index, each in enumerate(_evenly_divided(parts))
    )


def _holds_printed_one(groups: Sequence[str]) -> bool:
    windows = (
        groups[first : first + count]
        for count in sorted({len(form) for form in PRINTED})
        for first in range(len(groups) - count + 1)
    )
    return any(_is_card_number("".join(each)) for each in windows if tuple(map(len, each)) in PRINTED)


def _is_card_number(number: str) -> bool:
    return len(number) in _lengths_of(number[:BEGINNING]) and _Checksums(number).is_valid(0, len(number))


def _evenly_divided(parts: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Yield the longest sequences of groups that one kind of separator divides, as people write a card number."""
    current: list[tuple[str, str]] = []
    kind: str | None = None
    for digits, gap in parts:
        current.append((digits, gap))
        following = _kind(gap)
        if kind is not None and following != kind:
            yield current
            current = [(digits, gap)]
        kind = following
    yield current


def _kind(gap: str) -> str:
    signs = {"-" if unicodedata.category(sign) == "Pd" else sign for sign in gap if not sign.isspace()}
    return "".join(sorted(signs))


def _holds_one(parts: Sequence[tuple[str, str]], first_min: int, length_min: int) -> bool:
    """Return whether groups that follow one another are a card number.

    It has ``length_min`` digits or more, and ``first_min`` where it begins with the first group.
    """
    digits = "".join(group for group, _ in parts)
    ends = list(accumulate((len(group) for group, _ in parts), initial=0))
    places = {end: place for place, end in enumerate(ends)}
    sums = _Checksums(digits)
    for place, start in enumerate(ends[:-1]):
        least = length_min if place else first_min
        for length in _lengths_of(digits[start : start + BEGINNING]):
            end = places.get(start + length)
            if end is None or length < (least if end == place + 1 else max(least, PRINTED_LENGTH_MIN)):
                continue
            if sums.is_valid(start, start + length):
                return True
    return False


class _Checksums:
    """The checksum (Luhn, ISO/IEC 7812-1) of every window of a run of digits, each from two sums."""

    def __init__(self, digits: str) -> None:
        plain = [int(digit) for digit in digits]
        self._of_ends = (_running(plain, doubled=0), _running(plain, doubled=1))
        """The running sums for windows that end at an even and at an odd place."""

    def is_valid(self, start: int, end: int) -> bool:
        """Return whether the digits from ``start`` to before ``end`` have the checksum."""
        sums = self._of_ends[end % 2]
        return (sums[end] - sums[start]) % 10 == 0


def _running(digits: Iterable[int], *, doubled: int) -> list[int]:
    terms = (DOUBLED[digit] if place % 2 == doubled else digit for place, digit in enumerate(digits))
    return list(accumulate(terms, initial=0))


@cache
def _lengths_of(beginning: str) -> frozenset[int]:
    """Return how many digits a card number may have that begins with these."""
    found = (lengths for first, last, lengths in ISSUERS if first <= beginning[: len(first)] <= last)
    return frozenset().union(*found)
