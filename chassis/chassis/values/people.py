"""Two persons decide: who is one person, although two tokens may write the name differently. Pure."""

from __future__ import annotations

import unicodedata

from chassis.values.text import IGNORABLE, identifier


def is_one_person(one: str, other: str) -> bool:
    """Return whether two subjects differ at most in what a reader may overlook: case, width, blanks, the invisible."""
    return _folded(one) == _folded(other)


def is_normal(subject: str) -> bool:
    """Return whether a subject is in the form in which it can be taken for no other one."""
    try:
        return identifier(subject, length_max=len(subject)) == subject
    except ValueError:
        return False


def _folded(subject: str) -> str:
    visible = IGNORABLE.sub("", unicodedata.normalize("NFKC", subject))
    return unicodedata.normalize("NFKC", visible.strip().casefold())
