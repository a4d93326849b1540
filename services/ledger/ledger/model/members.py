"""Whose accounts they are: a member's number, and the accounts that each member has. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from chassis.saga.triggers import StepRequest
from ledger.model.sacco_books import OWNED_BY_MEMBERS, path

OPEN_MEMBER_ACCOUNTS: Final = "open_member_accounts"
MEMBER_ID: Final = re.compile(r"[A-Z0-9]{3,16}")
CURRENCY: Final = re.compile(r"[A-Z]{3}")


class InvalidMember(ValueError):
    """A member's number or currency cannot name an account; the message says which, and what fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMemberAccounts(StepRequest):
    """Open a member's accounts."""

    member_id: str
    currency: str


def accounts_of(member_id: str, currency: str) -> tuple[str, ...]:
    """Return the paths of every account that a member has. Raises InvalidMember."""
    if not MEMBER_ID.fullmatch(member_id):
        raise InvalidMember(f"Member {member_id!r} is not {MEMBER_ID.pattern}; register it under such a number.")
    if not CURRENCY.fullmatch(currency):
        raise InvalidMember(f"Member {member_id} has currency {currency!r}; a code has three capital letters.")
    return tuple(path(code, currency, member_id) for code in OWNED_BY_MEMBERS)
