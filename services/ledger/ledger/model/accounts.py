"""Accounts: who owns them, which side increases them, and what they may hold."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AccountKind(enum.StrEnum):
    """The kind of an account. Debits increase assets and expenses, credits increase the others."""

    ASSET = "ASSET"
    LIABILITY = "LIABILITY"
    INCOME = "INCOME"
    EXPENSE = "EXPENSE"
    EQUITY = "EQUITY"

    @property
    def sign(self) -> int:
        """1 where debits increase an account of this kind, -1 where credits do."""
        return 1 if self in (AccountKind.ASSET, AccountKind.EXPENSE) else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What never changes about an account. ``path`` is its name: ``sacco:fosa:m1:KES``.

    ``lanes`` is the number of its balance rows. Processes that write to different rows do not wait for each other, but
    no limit can be held on their sum, so an account with a limit has one.
    """

    id: int
    path: str
    chart: str
    code: str
    owner: str | None
    kind: AccountKind
    currency: str
    lanes: int


@dataclass(slots=True, kw_only=True)
class Balance:
    """One balance row: the totals of its entries, and the limits that they are held to.

    ``floor_minor`` is the least that may be available, ``ceiling_minor`` the most that may be held; None is no limit.
    """

    account_id: int
    lane: int
    sign: int
    currency: str
    floor_minor: int | None
    ceiling_minor: int | None
    is_closed: bool
    debits: int
    credits: int
    held_debits: int
    held_credits: int
    is_changed: bool = False

    @property
    def posted(self) -> int:
        """The balance on the account's own side, without what is held."""
        return self.sign * (self.debits - self.credits)

    @property
    def available(self) -> int:
        """What a limit is checked against: the balance less what is held against it."""
        if self.sign > 0:
            return self.debits - self.credits - self.held_credits
        return self.credits - self.debits - self.held_debits

    @property
    def expected(self) -> int:
        """What the account holds once every hold in its favour is posted and none against it."""
        if self.sign > 0:
            return self.debits - self.credits + self.held_debits
        return self.credits - self.debits + self.held_credits
