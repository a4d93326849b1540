"""Which roles have which rights in the console: what a page offers, and why it does not offer the rest. Pure.

The APIs decide by themselves; this table only keeps people from what they would refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

LOOK: Final = "look"
"""See sagas, reviews, plans, letters and the log."""
CANCEL: Final = "cancel"
OPERATE: Final = "operate"
"""Plan, apply, redrive, compensate, annotate and settle one saga or many, and close letters."""
APPROVE: Final = "approve"
"""Approve the plan of another person, where it acts on more sagas than one person may."""
MONEY: Final = "money"
"""See amounts, bookings and the evidence sheet."""
FINANCE: Final = "finance"
"""See the books, and what differs from the gateways'."""
MERCHANTS: Final = "merchants"
"""See merchants, their payments, endpoints and deliveries."""
MEMBERS: Final = "members"
"""See the money of a SACCO's members: in doubt, and receipts that are not allocated."""
PROPOSE: Final = "propose"
"""Propose whose a receipt is, or that it goes back."""
DECIDE: Final = "decide"
"""Refuse or withdraw what is proposed about a receipt. To approve it is another right."""
REVEAL: Final = "reveal"
"""See whom a saga is about, with a reason that is stored."""
AUDIT: Final = "audit"
"""See who revealed whom a saga is about, and why."""
SIGN_OUT: Final = "sign_out"
"""What anyone may do, with whatever role or none."""
ANYONE: Final = "*"

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    LOOK: ("support", "operator", "finance", "approver"),
    CANCEL: ("support", "operator"),
    OPERATE: ("operator",),
    APPROVE: ("approver",),
    MONEY: ("support", "operator", "finance"),
    FINANCE: ("finance",),
    MERCHANTS: ("support", "operator", "finance"),
    MEMBERS: ("support", "operator", "finance", "approver", "teller", "treasury"),
    PROPOSE: ("teller",),
    DECIDE: ("teller", "finance", "approver"),
    REVEAL: ("support", "operator"),
    AUDIT: ("finance", "approver"),
    SIGN_OUT: (ANYONE,),
}


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of one person."""

    roles: frozenset[str]
    table: Mapping[str, Collection[str]]

    def has(self, right: str) -> bool:
        """Return whether the person has a right."""
        return ANYONE in self.table[right] or not self.roles.isdisjoint(self.table[right])

    def why_not(self, right: str) -> str:
        """Return why the person cannot do something, and who can; empty where they can."""
        if self.has(right):
            return ""
        return f"Your roles are {', '.join(sorted(self.roles)) or 'none'}; this needs {' or '.join(self.table[right])}."


def table(changes: Mapping[str, Collection[str]]) -> Mapping[str, Collection[str]]:
    """Return the roles by right, with a deployment's changes. Raises ValueError for an unknown right."""
    if unknown := set(changes) - set(ROLES):
        raise ValueError(f"There is no right {', '.join(sorted(unknown))}; known: {', '.join(ROLES)}.")
    return {**ROLES, **changes}
