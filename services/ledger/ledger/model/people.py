"""Who is one person, although two tokens may write the name differently."""

from __future__ import annotations

import unicodedata

from chassis.values.text import IGNORABLE


def is_one_person(one: str, other: str) -> bool:
    """Return whether two subjects differ at most in what a reader may overlook: case, width, blanks, the invisible."""
    return _folded(one) == _folded(other)


def _folded(subject: str) -> str:
    visible = IGNORABLE.sub("", unicodedata.normalize("NFKC", subject))
    return unicodedata.normalize("NFKC", visible.strip().casefold())
