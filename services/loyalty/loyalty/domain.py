"""Loyalty's decisions: whether a customer's account has the points of an order. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from messages.contract import Envelope
from messages.inventory import InventoryReserved
from messages.loyalty import LoyaltyPointsBurned, LoyaltyPointsRejected, LoyaltyPointsRestored, RestoreLoyaltyPoints


class BurnState(enum.StrEnum):
    """The state of a burn: the points are taken, or restored."""

    BURNED = "BURNED"
    RESTORED = "RESTORED"


@dataclass(slots=True)
class Burn:
    """The points that one order takes from its customer's account."""

    saga_id: str
    customer_id: str
    points: int
    state: BurnState = BurnState.BURNED


@dataclass(slots=True)
class Accounts:
    """The accounts and burns that a batch touches, changed in memory; ``moved`` is what to add to each balance."""

    balances: dict[str, int]
    burns: dict[str, Burn] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)
    made: list[Burn] = field(default_factory=list)
    restored: list[Burn] = field(default_factory=list)

    def balance(self, customer_id: str) -> int:
        """Return the points on the account, after the changes of this batch so far. A missing account has 0."""
        return self.balances.get(customer_id, 0) + self.moved[customer_id]

    def burn(self, saga_id: str, customer_id: str, points: int) -> None:
        """Burn points for one order."""
        self.moved[customer_id] -= points
        self.made.append(Burn(saga_id=saga_id, customer_id=customer_id, points=points))

    def restore(self, burn: Burn) -> None:
        """Restore the points of one burn to its account."""
        self.moved[burn.customer_id] += burn.points
        burn.state = BurnState.RESTORED
        self.restored.append(burn)


def burn(
    event: InventoryReserved, accounts: Accounts, envelope: Envelope
) -> LoyaltyPointsBurned | LoyaltyPointsRejected:
    """Burn the order's points. An order without points needs no account."""
    available = accounts.balance(event.customer_id)
    if event.points_to_burn > max(available, 0):
        return LoyaltyPointsRejected(
            **envelope,
            reason="insufficient_points",
            detail=f"{event.points_to_burn} points were to be burned, the account holds {available}.",
            requested=event.points_to_burn,
            available=available,
        )
    accounts.burn(event.saga_id, event.customer_id, event.points_to_burn)
    return LoyaltyPointsBurned(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        lines=event.lines,
        points_to_burn=event.points_to_burn,
        payable_minor=event.payable_minor,
        ship_to=event.ship_to,
    )


def restore(command: RestoreLoyaltyPoints, undo: bool, accounts: Accounts, envelope: Envelope) -> LoyaltyPointsRestored:
    """Restore the order's points. Without ``undo`` there is nothing to restore, or it is already restored."""
    points = 0
    if undo:
        burned = accounts.burns[command.saga_id]
        accounts.restore(burned)
        points = burned.points
    return LoyaltyPointsRestored(**envelope, step=command.step, undone=undo, points=points)
