"""What a payer types to say what a payment is for. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

DROPPED: Final = re.compile(r"[\s\-#_./]")


def normal(text: str) -> str:
    """Return a reference in capitals, without blanks and the signs that people write between its parts."""
    return DROPPED.sub("", unicodedata.normalize("NFKC", text)).upper()
