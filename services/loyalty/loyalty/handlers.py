"""Loyalty's handlers."""

from __future__ import annotations

from chassis.saga.steps import Compensation, Handler, Step
from loyalty.domain import burn, credit, restore
from loyalty.sagas import order, return_order
from loyalty.tables import load_accounts, load_burns, load_credited, lock_accounts, save_accounts
from messages.loyalty import LoyaltyPointsRestored, RestoreLoyaltyPoints

HANDLERS: tuple[Handler, ...] = (
    Step(
        name="burn_loyalty_points",
        triggers=(order.BURN,),
        load=load_accounts,
        decide=burn,
        save=save_accounts,
        lock=lock_accounts,
        compensation=Compensation(
            on=RestoreLoyaltyPoints,
            undoes=("burn_loyalty_points",),
            load=load_burns,
            decide=restore,
            save=save_accounts,
            replies=(LoyaltyPointsRestored,),
            lock=lock_accounts,
        ),
    ),
    Step(
        name="restore_loyalty_points",
        triggers=(return_order.CREDIT,),
        load=load_credited,
        decide=credit,
        save=save_accounts,
        compensation=None,
        lock=lock_accounts,
    ),
)
