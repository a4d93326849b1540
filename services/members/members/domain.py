"""What members decides about people: numbers, states, days of Nairobi, and amounts that a provider can move. Pure."""

from __future__ import annotations

import enum
import hashlib
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Final

NAIROBI: Final = timezone(timedelta(hours=3), "Africa/Nairobi")
"""No daylight saving. A day ends at 24:00 there."""
SHILLING: Final = 100
"""Providers of mobile money move whole shillings, so an amount is a multiple of this many cents."""
AMOUNT_MAX_MINOR: Final = 2**53 - 1
"""JSON readers round larger integers differently."""
MEMBER_ID: Final = re.compile(r"[A-Z0-9]{3,16}")
LOAN_ID: Final = re.compile(r"LN[0-9]{1,12}")
KEYWORDS: Final = {"DEP": "DEPOSITS", "SAV": "SAVINGS", "SHR": "SHARES"}
"""What stands before a member's number in a bill reference, and the account that it names."""
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: nothing in it is taken for another letter when it is read out."""
REFERENCE_LENGTH: Final = 11


class MemberState(enum.StrEnum):
    """Whether a member's accounts are open."""

    REGISTERED = "REGISTERED"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"


class AccountStatus(enum.StrEnum):
    """The status of a member, and of each account. Only an ACTIVE one pays, or receives without a person's look."""

    ACTIVE = "ACTIVE"
    DORMANT = "DORMANT"
    BLOCKED = "BLOCKED"
    DECEASED = "DECEASED"


class Account(enum.StrEnum):
    """The accounts of a member that can receive."""

    SAVINGS = "SAVINGS"
    DEPOSITS = "DEPOSITS"
    SHARES = "SHARES"


class CollectionState(enum.StrEnum):
    """The state of a prompt as its member sees it. PAID_LATE: the money came after the prompt had failed."""

    REQUESTED = "REQUESTED"
    PROMPTED = "PROMPTED"
    """The provider has taken it, and shows it on the phone. Where its answer is lost that is not known."""
    PAID = "PAID"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    PAID_LATE = "PAID_LATE"


class RequestState(enum.StrEnum):
    """The state of a withdrawal or of a repayment from savings."""

    REQUESTED = "REQUESTED"
    PAID = "PAID"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class LoanState(enum.StrEnum):
    """The state of a loan."""

    APPLIED = "APPLIED"
    APPRAISED = "APPRAISED"
    REFUSED = "REFUSED"
    DISBURSING = "DISBURSING"
    ACTIVE = "ACTIVE"
    PAID = "PAID"


class ReceiptState(enum.StrEnum):
    """The state of a receipt. SUSPENSE is the work list; ASSIGNED and RETURNING are decided and under way."""

    ATTRIBUTED = "ATTRIBUTED"
    SUSPENSE = "SUSPENSE"
    ALLOCATED = "ALLOCATED"
    ASSIGNED = "ASSIGNED"
    RETURNING = "RETURNING"
    RETURNED = "RETURNED"


STATUS_REASONS: Final = {
    AccountStatus.BLOCKED: "account_blocked",
    AccountStatus.DORMANT: "account_dormant",
    AccountStatus.DECEASED: "member_deceased",
}
"""Why a receipt waits for a person, by the status of the account that it names."""


def is_whole(amount_minor: int) -> bool:
    """Return whether a provider can move this amount."""
    return amount_minor > 0 and amount_minor % SHILLING == 0


def collection_reference(collection_id: str) -> str:
    """Return the account reference of a prompt: ``C`` and 11 letters that its id always leads to, 12 in all."""
    value = int.from_bytes(hashlib.sha256(f"collection reference {collection_id}".encode()).digest())
    letters = "".join(ALPHABET[value >> 5 * index & 31] for index in range(REFERENCE_LENGTH))
    return f"C{letters}"


def day_of(at: datetime) -> date:
    """Return the day of Nairobi in which a time is."""
    return at.astimezone(NAIROBI).date()


def start_of(day: date) -> datetime:
    """Return the time at which a day of Nairobi begins, UTC."""
    return datetime.combine(day, time(), NAIROBI).astimezone(UTC)


def collection_state(
    *, receipt: str | None, is_paid: bool, failure: str | None, is_prompted: bool = False
) -> CollectionState:
    """Return the state of a prompt of what is known: its acceptance, a receipt, its proven success, its proven failure.

    The order in which they became known does not matter. Money that came is never FAILED.
    """
    if failure is not None:
        if receipt is not None:
            return CollectionState.PAID_LATE
        return CollectionState.EXPIRED if failure == "expired" else CollectionState.FAILED
    if is_paid or receipt is not None:
        return CollectionState.PAID
    return CollectionState.PROMPTED if is_prompted else CollectionState.REQUESTED
