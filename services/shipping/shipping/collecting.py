"""The step whose outcome comes days later: a courier accepts a parcel now, and reports when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from chassis.saga.answers import Settlement
from chassis.saga.attempts import AwaitedPolicy
from chassis.saga.steps import AwaitedCall, AwaitedStep
from shipping.courier import Pickup, PickupCourier
from shipping.parcels import Collection, CollectParcel, collection_of, outcome_of
from shipping.sagas import return_order
from shipping.tables import load_no_collections, save_collections

STEP = "collect_parcel"
POLICY = AwaitedPolicy(no_return=True, can_cancel=True)
"""Nothing sends a parcel back to the customer once it is here. Until it is collected it can be called off."""


def pickups(requests: Sequence[CollectParcel], _tx: Connection) -> Mapping[str, Pickup]:
    """Return the pickups to request, by saga id."""
    return {
        request.saga_id: Pickup(
            reference=request.reference, collect_from=request.collect_from, lines=request.approved.lines
        )
        for request in requests
    }


def record(request: CollectParcel, settlement: Settlement, ended: list[Collection]) -> None:
    """Record the end of a collection."""
    ended.append(collection_of(request, outcome_of(request.approved, settlement)))


def collecting(courier: PickupCourier) -> AwaitedStep[CollectParcel, Pickup, list[Collection]]:
    """Return the step, which calls this courier."""
    return AwaitedStep(
        name=STEP,
        triggers=(return_order.COLLECTION,),
        policy=POLICY,
        call=AwaitedCall(prepare=pickups, send=courier.collect, query=courier.find_collection, cancel=courier.call_off),
        load=load_no_collections,
        record=record,
        save=save_collections,
        compensation=None,
    )
