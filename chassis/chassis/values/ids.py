"""Ids as people type them: a ULID means the same in small letters, and the services know it in capital ones."""

from __future__ import annotations

import re
from typing import Final

ULID: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII | re.IGNORECASE)


def canonical(text: str) -> str:
    """Return an id as the services know it; what is not a ULID stays as it is."""
    return text.upper() if ULID.fullmatch(text) else text
