"""What becomes of a parcel that comes back, and what is paid for it. Pure.

What arrived counts, damaged or not: on its way a parcel is our risk. One that the courier lost counts as a whole.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chassis.saga.answers import Proven, Settlement
from chassis.saga.attempts import Outcome
from chassis.saga.triggers import StepKey, StepRequest
from chassis.values.json_text import compact
from messages.checkout import Address, OrderLine
from messages.shipping import ReturnedLine


class ParcelEnd(enum.StrEnum):
    """How a collection ended, as a courier reports it."""

    ARRIVED = "arrived"
    LOST = "lost"
    NOT_COLLECTED = "not_collected"
    NOT_COLLECTABLE = "not_collectable"
    CALLED_OFF = "called_off"


NOTHING_ARRIVED, NOTHING_OF_IT_ARRIVED = "nothing_arrived", "nothing_of_it_arrived"
NAMED_MAX = 3
"""So many products of a surplus a sentence names, so that its length does not depend on the parcel."""
DETAILS: Mapping[str, str] = {
    NOTHING_ARRIVED: "The parcel arrived without any of its pieces.",
    ParcelEnd.NOT_COLLECTED: "The courier could not collect the parcel.",
    ParcelEnd.NOT_COLLECTABLE: "The courier does not collect at this address.",
    ParcelEnd.CALLED_OFF: "The collection was called off.",
}


class CollectionState(enum.StrEnum):
    """The state of a collection that has ended."""

    ARRIVED = "ARRIVED"
    LOST = "LOST"
    NOT_COLLECTED = "NOT_COLLECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """So many pieces of one product that arrived in the same condition."""

    sku: str
    quantity: int
    is_damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a courier reports of a parcel that has ended. It is kept with the evidence as its ``detail``."""

    end: ParcelEnd
    pieces: tuple[Piece, ...] = ()

    @property
    def detail(self) -> str:
        """The report as compact JSON: the same text for the same pieces, in whatever order the courier lists them."""
        counted = Counter[tuple[str, bool]]()
        for each in self.pieces:
            counted[each.sku, each.is_damaged] += each.quantity
        pieces = [[sku, quantity, is_damaged] for (sku, is_damaged), quantity in sorted(counted.items())]
        return compact({"end": self.end, "pieces": pieces})

    @classmethod
    def of(cls, detail: str) -> Report:
        """Return the report of a ``detail``. Raises ValueError."""
        try:
            read: Any = json.loads(detail)
            pieces = tuple(
                Piece(sku=sku, quantity=quantity, is_damaged=damaged) for sku, quantity, damaged in read["pieces"]
            )
            return cls(end=ParcelEnd(read["end"]), pieces=pieces)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{detail!r} is no report of a parcel; compare its courier's adapter.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """What is approved for a return: its pieces, and the amounts if all of them arrive."""

    lines: tuple[OrderLine, ...]
    refund_minor: int
    points_minor: int
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectParcel(StepRequest):
    """Collect these pieces at this address. ``reference`` is the number by which the courier's records are compared."""

    reference: str
    order_id: str
    collect_from: Address
    approved: Approved


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What arrived, at most what is approved, and what is paid for it. Where it is lost all is paid.

    ``surplus`` is what arrived besides: other products, and more pieces than are approved.
    """

    collection_id: str
    is_lost: bool
    received: tuple[ReturnedLine, ...]
    refund_minor: int
    points_minor: int
    points: int
    surplus: tuple[ReturnedLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCollected:
    """Nothing of it arrived, and the customer has the pieces. ``reason`` is a code, ``detail`` one sentence.

    ``surplus`` is what came instead.
    """

    collection_id: str | None
    reason: str
    detail: str
    surplus: tuple[ReturnedLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The row of a collection that has ended."""

    saga_id: str
    step: str
    order_id: str
    state: CollectionState
    collection_id: str | None
    received: tuple[ReturnedLine, ...]
    surplus: tuple[ReturnedLine, ...]
    refund_minor: int

    @property
    def key(self) -> StepKey:
        """The saga and the step that collected it."""
        return self.saga_id, self.step


def judge(approved: Approved, proof: Proven) -> Proven:
    """Return what a proof means for this return: one of a parcel without any announced piece proves a failure.

    The customer still has them. Raises ValueError for a success without a courier's report.
    """
    if proof.outcome is not Outcome.SUCCEEDED:
        return proof
    report = Report.of(proof.detail or "")
    if report.end is not ParcelEnd.ARRIVED or received_of(approved.lines, report.pieces):
        return proof
    return replace(proof, outcome=Outcome.REFUSED)


def outcome_of(approved: Approved, settlement: Settlement) -> Arrived | NotCollected:
    """Return what follows from what settled the step. Raises ValueError for a proof without a courier's report."""
    proof = settlement.proof
    if not settlement.is_done:
        return _not_collected(approved, proof)
    report = Report.of(proof.detail or "")
    is_lost = report.end is ParcelEnd.LOST
    received = received_of(approved.lines, report.pieces)
    whole = gross_of(approved.lines)
    counted = whole if is_lost else gross_of(_arrived(approved.lines, received))
    refund_minor = share(approved.refund_minor, counted, whole)
    points_minor = share(approved.refund_minor + approved.points_minor, counted, whole) - refund_minor
    return Arrived(
        collection_id=proof.reference or "",
        is_lost=is_lost,
        received=received,
        refund_minor=refund_minor,
        points_minor=points_minor,
        points=_points(approved, points_minor, counted, whole),
        surplus=surplus_of(received, report.pieces),
    )


def collection_of(request: CollectParcel, outcome: Arrived | NotCollected) -> Collection:
    """Return the row of an outcome."""
    arrived = outcome if isinstance(outcome, Arrived) else None
    state = CollectionState.NOT_COLLECTED
    if arrived is not None:
        state = CollectionState.LOST if arrived.is_lost else CollectionState.ARRIVED
    return Collection(
        saga_id=request.saga_id,
        step=request.step,
        order_id=request.order_id,
        state=state,
        collection_id=outcome.collection_id,
        received=arrived.received if arrived else (),
        surplus=outcome.surplus,
        refund_minor=arrived.refund_minor if arrived else 0,
    )


def _points(approved: Approved, points_minor: int, counted: int, whole: int) -> int:
    """Return the points for what they had paid, or by the price of the pieces where a point pays less than a unit."""
    if approved.points <= approved.points_minor:
        return share(approved.points, points_minor, approved.points_minor)
    return share(approved.points, counted, whole)


def share(approved: int, counted: int, whole: int) -> int:
    """Return the part of an approved amount for what counts of a whole, rounded down."""
    return approved * counted // whole if whole else 0


def gross_of(lines: Iterable[OrderLine]) -> int:
    """Return what lines cost, in minor units."""
    return sum(line.quantity * line.unit_price_minor for line in lines)


def received_of(lines: Sequence[OrderLine], pieces: Sequence[Piece]) -> tuple[ReturnedLine, ...]:
    """Return what arrived of each product in the order of the lines: good pieces first, and no more than approved."""
    good, damaged = Counter[str](), Counter[str]()
    for piece in pieces:
        (damaged if piece.is_damaged else good)[piece.sku] += piece.quantity
    wanted = Counter[str]()
    for line in lines:
        wanted[line.sku] += line.quantity
    received = []
    for sku, quantity in wanted.items():
        is_good = min(quantity, good[sku])
        received.append(ReturnedLine(sku=sku, good=is_good, damaged=min(quantity - is_good, damaged[sku])))
    return tuple(each for each in received if each.good or each.damaged)


def surplus_of(received: Sequence[ReturnedLine], pieces: Sequence[Piece]) -> tuple[ReturnedLine, ...]:
    """Return what arrived besides what is received, in the order of the pieces."""
    left: dict[str, ReturnedLine] = {}
    for piece in pieces:
        line = left.get(piece.sku, ReturnedLine(sku=piece.sku, good=0, damaged=0))
        good, damaged = (0, piece.quantity) if piece.is_damaged else (piece.quantity, 0)
        left[piece.sku] = replace(line, good=line.good + good, damaged=line.damaged + damaged)
    for each in received:
        line = left[each.sku]
        left[each.sku] = replace(line, good=line.good - each.good, damaged=line.damaged - each.damaged)
    return tuple(each for each in left.values() if each.good or each.damaged)


def _arrived(lines: Sequence[OrderLine], received: Sequence[ReturnedLine]) -> list[OrderLine]:
    """Return the lines with the pieces that arrived; where a product has several prices, the first lines' first."""
    left = Counter({each.sku: each.good + each.damaged for each in received})
    arrived = []
    for line in lines:
        quantity = min(line.quantity, left[line.sku])
        left[line.sku] -= quantity
        arrived.append(OrderLine(sku=line.sku, quantity=quantity, unit_price_minor=line.unit_price_minor))
    return arrived


def _not_collected(approved: Approved, proof: Proven) -> NotCollected:
    report = Report.of(proof.detail) if proof.detail else Report(end=ParcelEnd.NOT_COLLECTED)
    surplus = surplus_of(received_of(approved.lines, report.pieces), report.pieces)
    reason = report.end.value
    if report.end is ParcelEnd.ARRIVED:
        reason = NOTHING_OF_IT_ARRIVED if surplus else NOTHING_ARRIVED
    detail = DETAILS.get(reason, DETAILS[ParcelEnd.NOT_COLLECTED])
    if reason == NOTHING_OF_IT_ARRIVED:
        detail = f"None of the announced pieces arrived; the parcel had {_named(surplus)}."
    return NotCollected(collection_id=proof.reference, reason=reason, detail=detail, surplus=surplus)


def _named(lines: Sequence[ReturnedLine]) -> str:
    names = [f"{line.good + line.damaged} of {line.sku}" for line in lines]
    if len(names) > NAMED_MAX:
        names[NAMED_MAX:] = [f"{len(names) - NAMED_MAX} other products"]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
