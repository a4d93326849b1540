"""What a payer wrote: which account a bill reference names, exactly or not at all. It never guesses. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from chassis.values.bill_reference import normal
from members.domain import ALPHABET, KEYWORDS, LOAN_ID, MEMBER_ID, REFERENCE_LENGTH

LENGTH_MAX: Final = 20
"""A bill reference has no more characters; a longer text is none."""
COLLECTION: Final = re.compile(rf"C[{ALPHABET}]{{{REFERENCE_LENGTH}}}")
ACCOUNT: Final = re.compile(rf"({'|'.join(KEYWORDS)})([A-Z0-9]{{3,16}})")
UNKNOWN, MISSING, NOT_TEXT = "unknown_reference", "no_reference", "not_text"


class Named(enum.StrEnum):
    """What a reference may name."""

    COLLECTION = "COLLECTION"
    ACCOUNT = "ACCOUNT"
    LOAN = "LOAN"
    MEMBER = "MEMBER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that a reference would name, if there is such a thing. ``account`` only for ACCOUNT."""

    kind: Named
    id: str
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The candidates of a reference in the order in which they count; without one, the reason."""

    candidates: tuple[Candidate, ...] = ()
    reason: str = UNKNOWN


def read(text: str | None) -> Reading:
    """Return what a reference may name. A person decides about what is too long, or is no letters and digits."""
    if text is None:
        return Reading(reason=MISSING)
    plain = normal(text)
    if not plain:
        return Reading(reason=MISSING)
    if len(text.strip()) > LENGTH_MAX or not (plain.isascii() and plain.isalnum()):
        return Reading(reason=NOT_TEXT)
    found: list[Candidate] = []
    if COLLECTION.fullmatch(plain):
        found.append(Candidate(kind=Named.COLLECTION, id=plain))
    if (account := ACCOUNT.fullmatch(plain)) is not None:
        found.append(Candidate(kind=Named.ACCOUNT, id=account[2], account=KEYWORDS[account[1]]))
    if LOAN_ID.fullmatch(plain):
        found.append(Candidate(kind=Named.LOAN, id=plain))
    if MEMBER_ID.fullmatch(plain) and not is_reserved(plain):
        found.append(Candidate(kind=Named.MEMBER, id=plain))
    return Reading(candidates=tuple(found))


def is_reserved(member_id: str) -> bool:
    """Return whether a number would read as something else: no member has such a one."""
    has_keyword = any(member_id.startswith(keyword) for keyword in KEYWORDS)
    return has_keyword or LOAN_ID.fullmatch(member_id) is not None or COLLECTION.fullmatch(member_id) is not None
