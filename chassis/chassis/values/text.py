"""One rule for text that people read, and one for identifiers, wherever they come from: HTTP, CSV, JSON Lines, options.

Both return a text without blanks around it. An identifier also has one form, Unicode's NFC, so that two that look the
same are the same. A name stays as it was typed: NFC replaces some Chinese and Japanese characters by others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

BIDI_CONTROLS: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""They reorder what stands around them: a line of a log, or a label, would show another text."""
IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
"""Characters without a shape: Unicode's Default_Ignorable_Code_Point, and the blank of Braille."""
BREAKING: Final = frozenset({"Cc", "Zl", "Zp"})
LONE_SURROGATE: Final = "Cs"


def is_plain(text: str) -> bool:
    """Return whether both rules leave the text as it is, which nearly every text shows at once."""
    return text.isascii() and text.isprintable() and text != "" and text[0] != " " and text[-1] != " "


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can hold the text: it has no NUL, and is one that UTF-8 can hold."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def are_plain(texts: Sequence[str]) -> bool:
    """Return whether all of them are plain, by one look at all. It may miss texts with a bar, never a text that is not.

    None of them is empty.
    """
    joined = "|".join(texts)
    return is_plain(f"|{joined}|") and "| " not in f"|{joined}" and " |" not in f"{joined}|"


def normal(text: str) -> str:
    """Return the form in which identifiers are stored and compared."""
    return text if is_plain(text) else unicodedata.normalize("NFC", text.strip())


def human_text(text: str, *, length_max: int) -> str:
    """Return a text for people without blanks around it. Raises ValueError with what is wrong, without the text itself.

    Joiners and other marks of a script may stand in it, as some languages need them; it must show something.
    """
    if is_plain(text) and len(text) <= length_max:
        return text
    _check_lines(text)
    found = text.strip()
    _check_shown(found, length_max)
    for index, letter in enumerate(found):
        if BIDI_CONTROLS.match(letter):
            raise ValueError(f"Character {index + 1} (U+{ord(letter):04X}) changes the direction of text; remove it")
    return found


def identifier(text: str, *, length_max: int) -> str:
    """Return the normal form of an identifier. Raises ValueError with what is wrong, without the text itself.

    Nothing invisible may stand in it, and no blank but a plain one: two that look alike would be two.
    """
    if is_plain(text) and len(text) <= length_max:
        return text
    _check_lines(text)
    found = normal(text)
    _check_shown(found, length_max)
    for index, letter in enumerate(found):
        if IGNORABLE.match(letter) or (letter != " " and unicodedata.category(letter) in {"Zs", "Cf", "Co"}):
            raise ValueError(f"Character {index + 1} (U+{ord(letter):04X}) cannot be seen; remove it")
    return found


def _check_lines(text: str) -> None:
    for index, letter in enumerate(text.strip(" ")):
        category = unicodedata.category(letter)
        if letter in "\r\n":
            raise ValueError("It has a line break; write it on one line")
        if category in BREAKING:
            raise ValueError(f"Character {index + 1} (U+{ord(letter):04X}) is a control character; remove it")
        if category == LONE_SURROGATE:
            raise ValueError("Not a text that UTF-8 can hold; send whole characters")


def _check_shown(text: str, length_max: int) -> None:
    if not any(map(_is_visible, text)):
        raise ValueError("Blank; it must have a character that can be seen")
    if len(text) > length_max:
        raise ValueError(f"{len(text)} characters; at most {length_max}")


def _is_visible(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LNPS" and not IGNORABLE.match(letter)
