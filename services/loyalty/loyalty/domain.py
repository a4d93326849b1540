"""Loyalty's decisions: whether an account has the points of an order, and what a return gives back. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from chassis.saga.triggers import StepKey, StepRequest
from messages.contract import Envelope
from messages.loyalty import LoyaltyPointsRestored, RestoreLoyaltyPoints

INSUFFICIENT_POINTS = "insufficient_points"
"""The reason of a rejection."""


class BurnState(enum.StrEnum):
    """The state of a burn: the points are taken, or restored."""

    BURNED = "BURNED"
    RESTORED = "RESTORED"


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnPoints(StepRequest):
    """Take points from a customer's account."""

    customer_id: str
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditPoints(StepRequest):
    """Give points back to a customer's account that a step of the order ``order_id`` has taken; 0 gives none."""

    order_id: str
    customer_id: str
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """The account has fewer points than are wanted."""

    requested: int
    available: int


@dataclass(slots=True, kw_only=True)
class Burn:
    """The points that one step of a saga takes from a customer's account."""

    saga_id: str
    step: str
    customer_id: str
    points: int
    state: BurnState = BurnState.BURNED

    @property
    def key(self) -> StepKey:
        """The saga and the step that made it."""
        return self.saga_id, self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """The points that one step of a saga has given back to a customer's account."""

    saga_id: str
    step: str
    order_id: str
    customer_id: str
    points: int

    @property
    def key(self) -> StepKey:
        """The saga and the step that made it."""
        return self.saga_id, self.step


@dataclass(slots=True)
class Accounts:
    """The accounts and burns that a batch touches, changed in memory; ``moved`` is what to add to each balance."""

    balances: dict[str, int]
    burns: dict[StepKey, Burn] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)
    made: list[Burn] = field(default_factory=list)
    restored: list[Burn] = field(default_factory=list)
    credited: list[Credit] = field(default_factory=list)

    def balance(self, customer_id: str) -> int:
        """Return the points on the account, after the changes of this batch so far. A missing account has 0."""
        return self.balances.get(customer_id, 0) + self.moved[customer_id]

    def burn(self, request: BurnPoints) -> Burn:
        """Burn points for one step."""
        self.moved[request.customer_id] -= request.points
        burn = Burn(saga_id=request.saga_id, step=request.step, customer_id=request.customer_id, points=request.points)
        self.made.append(burn)
        return burn

    def restore(self, burn: Burn) -> None:
        """Restore the points of one burn to its account."""
        self.moved[burn.customer_id] += burn.points
        burn.state = BurnState.RESTORED
        self.restored.append(burn)

    def credit(self, request: CreditPoints) -> Credit:
        """Give points back for one step."""
        self.moved[request.customer_id] += request.points
        credit = Credit(
            saga_id=request.saga_id,
            step=request.step,
            order_id=request.order_id,
            customer_id=request.customer_id,
            points=request.points,
        )
        self.credited.append(credit)
        return credit


def burn(request: BurnPoints, accounts: Accounts, _envelope: Envelope) -> Burn | Shortage:
    """Burn the points. A request for none needs no account."""
    available = accounts.balance(request.customer_id)
    if request.points > max(available, 0):
        return Shortage(requested=request.points, available=available)
    return accounts.burn(request)


def restore(command: RestoreLoyaltyPoints, undo: bool, accounts: Accounts, envelope: Envelope) -> LoyaltyPointsRestored:
    """Restore the points of this step. Without ``undo`` there are none, or they are restored already."""
    points = 0
    if undo:
        burned = accounts.burns[command.saga_id, command.step]
        accounts.restore(burned)
        points = burned.points
    return LoyaltyPointsRestored(**envelope, step=command.step, undone=undo, points=points)


def credit(request: CreditPoints, accounts: Accounts, _envelope: Envelope) -> Credit:
    """Give the points back. A request for none needs no account."""
    return accounts.credit(request)
