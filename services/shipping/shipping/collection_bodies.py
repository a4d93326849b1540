"""How the courier shows a collection, in its answers and in its webhooks. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.saga.answers import Accepted, Proven
from chassis.saga.attempts import Outcome
from shipping.parcels import ParcelEnd, Piece, Report

PROVIDER = "courier"
UNDER_WAY = frozenset({"accepted", "collected"})
DAMAGED: Mapping[object, bool] = {"good": False, "damaged": True}
OUTCOMES: Mapping[ParcelEnd, Outcome] = {
    ParcelEnd.ARRIVED: Outcome.SUCCEEDED,
    ParcelEnd.LOST: Outcome.SUCCEEDED,
    ParcelEnd.NOT_COLLECTED: Outcome.REFUSED,
    ParcelEnd.CALLED_OFF: Outcome.VOIDED,
}
"""What an end proves. A parcel that the courier lost was handed over, so the return goes forward."""


def answer_of(body: Mapping[str, object]) -> Accepted | Proven:
    """Return what a collection as the courier shows it says. Raises ValueError for a body of another form.

    A parcel that arrived without any piece proves a failure: the customer still has them.
    """
    number, status = body.get("collection_id"), body.get("status")
    if not isinstance(status, str) or not isinstance(number, str | None):
        raise ValueError(f"the status is {status!r} and the collection_id {number!r}")
    provider_id = None if number is None else f"{PROVIDER}:{number}"
    if status in UNDER_WAY:
        return Accepted(provider_id=provider_id, reference=number)
    end = ParcelEnd(status)
    if end not in OUTCOMES:
        raise ValueError(f"the status {status!r} is no end of a collection")
    report = Report(end=end, pieces=_pieces(body.get("pieces", [])))
    is_empty = end is ParcelEnd.ARRIVED and not report.pieces
    outcome = Outcome.REFUSED if is_empty else OUTCOMES[end]
    return Proven(outcome=outcome, provider_id=provider_id, reference=number, detail=report.detail)


def _pieces(value: object) -> tuple[Piece, ...]:
    if not isinstance(value, list):
        raise ValueError("pieces is no list")
    return tuple(_piece(each) for each in value)


def _piece(value: object) -> Piece:
    if not isinstance(value, Mapping):
        raise ValueError("a piece is no object")
    sku, quantity, is_damaged = value.get("sku"), value.get("quantity"), DAMAGED.get(value.get("condition"))
    if not isinstance(sku, str) or not isinstance(quantity, int) or quantity < 1 or is_damaged is None:
        raise ValueError(f"a piece has the sku {sku!r}, the quantity {quantity!r}, the condition {is_damaged!r}")
    return Piece(sku=sku, quantity=quantity, is_damaged=is_damaged)
