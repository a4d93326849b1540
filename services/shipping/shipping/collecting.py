"""The step whose outcome comes days later: a courier accepts a parcel now, and reports when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from sqlalchemy import Connection

from chassis.saga.answers import Proven, Settlement
from chassis.saga.attempts import AwaitedPolicy
from chassis.saga.steps import AwaitedCall, AwaitedStep
from shipping.courier import Pickup, PickupCourier
from shipping.parcels import Collection, CollectParcel, collection_of, judge, outcome_of
from shipping.sagas import return_order
from shipping.tables import load_no_collections, save_collections

log = structlog.get_logger()

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
    collection = collection_of(request, outcome_of(request.approved, settlement))
    if collection.surplus:
        log.warning(
            "A parcel had a surplus: pieces that its return had not announced.",
            saga_id=request.saga_id,
            collection_id=collection.collection_id,
            pieces=sum(line.good + line.damaged for line in collection.surplus),
        )
    ended.append(collection)


def judged(request: CollectParcel, proof: Proven) -> Proven:
    """Return what a proof means for what was requested."""
    return judge(request.approved, proof)


def collecting(courier: PickupCourier) -> AwaitedStep[CollectParcel, Pickup, list[Collection]]:
    """Return the step, which calls this courier."""
    return AwaitedStep(
        name=STEP,
        triggers=(return_order.COLLECTION,),
        policy=POLICY,
        call=AwaitedCall(prepare=pickups, send=courier.collect, query=courier.find_collection, cancel=courier.call_off),
        load=load_no_collections,
        judge=judged,
        record=record,
        save=save_collections,
        compensation=None,
    )
