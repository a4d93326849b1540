"""One rule for text that people read, and one for identifiers, wherever they come from: HTTP, CSV, JSON Lines, options.

Both return one form of the text: Unicode's NFC, without blanks around it. So what looks the same is the same.
"""

from __future__ import annotations

import re
import unicodedata
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


def normal(text: str) -> str:
    """Return the form in which texts are stored and compared."""
    return unicodedata.normalize("NFC", text.strip())


def human_text(text: str, *, length_max: int) -> str:
    """Return the normal form of a text for people. Raises ValueError with what is wrong, without the text itself.

    Joiners and other marks of a script may stand in it, as some languages need them; it must show something.
    """
    found = _checked(text, length_max)
    for index, letter in enumerate(found):
        if BIDI_CONTROLS.match(letter):
            raise ValueError(f"Character {index + 1} (U+{ord(letter):04X}) changes the direction of text; remove it")
    return found


def identifier(text: str, *, length_max: int) -> str:
    """Return the normal form of an identifier. Raises ValueError with what is wrong, without the text itself.

    Nothing invisible may stand in it, and no blank but a plain one: two that look alike would be two.
    """
    found = _checked(text, length_max)
    for index, letter in enumerate(found):
        if IGNORABLE.match(letter) or (letter != " " and unicodedata.category(letter) in {"Zs", "Cf", "Co"}):
            raise ValueError(f"Character {index + 1} (U+{ord(letter):04X}) cannot be seen; remove it")
    return found


def _checked(text: str, length_max: int) -> str:
    for index, letter in enumerate(text.strip(" ")):
        category = unicodedata.category(letter)
        if letter in "\r\n":
            raise ValueError("It has a line break; write it on one line")
        if category in BREAKING:
            raise ValueError(f"Character {index + 1} (U+{ord(letter):04X}) is a control character; remove it")
        if category == LONE_SURROGATE:
            raise ValueError("Not a text that UTF-8 can hold; send whole characters")
    found = normal(text)
    if not any(_is_visible(letter) for letter in found):
        raise ValueError("Blank; it must have a character that can be seen")
    if len(found) > length_max:
        raise ValueError(f"{len(found)} characters; at most {length_max}")
    return found


def _is_visible(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LNPS" and not IGNORABLE.match(letter)
