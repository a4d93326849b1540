"""A courier in memory that collects parcels: it accepts one now, and days later it arrives, is short, or is lost.

Its webhooks are lost, late, doubled, or before the answer to the request. A query always returns what is true.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from chassis.saga.answers import NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from messages.checkout import OrderLine
from proof.schedule import Schedule
from shipping.collection_bodies import answer_of
from shipping.courier import Pickup
from shipping.parcels import ParcelEnd, Report

ACCEPTED, COLLECTED = "accepted", "collected"
ENDS = (ParcelEnd.ARRIVED, ParcelEnd.ARRIVED, ParcelEnd.ARRIVED, ParcelEnd.LOST)
CONDITIONS = ("good", "good", "damaged", "missing")
"""What becomes of each piece of a parcel that arrives."""
TAKES_S = (0.5, 3_600.0, 86_400.0, 5 * 86_400.0)
"""How long a parcel waits until it is collected, and then travels, at most. The shortest is over before the answer."""
RATES = (0.0, 0.3, 1.0)
"""How often webhooks are lost, in a schedule."""
LATE_S = 2 * 86_400.0
WEBHOOK_S = 0.5


class CollectedTwice(AssertionError):
    """A return has two collections: an attempt was repeated under another key."""


@dataclass(slots=True, kw_only=True)
class Parcel:
    """One collection, by the key of its request."""

    key: str
    collection_id: str
    reference: str
    lines: Sequence[OrderLine]
    state: str = ACCEPTED
    pieces: list[dict[str, object]] = field(default_factory=list)

    @property
    def body(self) -> dict[str, object]:
        """The collection as the courier shows it."""
        shown: dict[str, object] = {
            "collection_id": self.collection_id, "status": self.state, "reference": self.reference,
            "idempotency_key": self.key,
        }  # fmt: skip
        return shown if self.state in (ACCEPTED, COLLECTED) else {**shown, "pieces": self.pieces}


@dataclass(slots=True, kw_only=True)
class PickupCourier:
    """The courier. ``send`` takes its webhooks; ``on_change`` is called when a parcel has changed.

    ``called`` has every request and cancel that arrived, in their order: the key and whether it was announced then.
    """

    schedule: Schedule
    send: Callable[[bytes], None]
    on_change: Callable[[], None]
    is_announced: Callable[[str], bool]
    parcels: dict[str, Parcel] = field(default_factory=dict)
    called_off: set[str] = field(default_factory=set)
    called: list[tuple[str, bool]] = field(default_factory=list)
    _chance: random.Random = field(init=False)
    _lost_rate: float = field(init=False)
    _refusal_rate: float = field(init=False)
    _refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"parcels {self.schedule.seed}")
        self._lost_rate = self._chance.choice(RATES)
        self._refusal_rate = self._chance.choice((0.0, 0.1))

    def collect(self, request: Pickup, key: str) -> SendAnswer:
        """Accept a collection, once for each key."""
        self.called.append((key, self.is_announced(key)))
        if key in self.called_off:
            return _called_off(key)
        if key in self._refused or (key not in self.parcels and self._chance.random() < self._refusal_rate):
            self._refused.add(key)
            return Proven(outcome=Outcome.REFUSED, detail=Report(end=ParcelEnd.NOT_COLLECTABLE).detail)
        if key not in self.parcels:
            self._check_is_only(request, key)
            number = f"COL{len(self.parcels)} {request.reference}"
            parcel = Parcel(key=key, collection_id=number, reference=request.reference, lines=request.lines)
            self.parcels[key] = parcel
            self._later(lambda: self._collect(parcel))
        return answer_of(self.parcels[key].body)

    def _check_is_only(self, request: Pickup, key: str) -> None:
        """Raise CollectedTwice for another collection of the same return: its parcel would be waited for for ever."""
        for other in self.parcels.values():
            if other.reference == request.reference and other.state != ParcelEnd.CALLED_OFF:
                raise CollectedTwice(f"{request.reference} is collected under {other.key}, and then under {key}.")

    def find_collection(self, key: str, provider_id: str | None) -> QueryAnswer:
        """Return what is true of a collection now."""
        if key in self.parcels:
            return answer_of(self.parcels[key].body)
        if key in self.called_off:
            return _called_off(key)
        if key in self._refused:
            return Proven(outcome=Outcome.REFUSED, detail=Report(end=ParcelEnd.NOT_COLLECTABLE).detail)
        return NotFound()

    def call_off(self, key: str, provider_id: str | None) -> Proven:
        """Call a collection off, until it is collected; also one whose request has not arrived."""
        self.called.append((key, self.is_announced(key)))
        parcel = self.parcels.get(key)
        if parcel is None:
            if key in self._refused:
                return Proven(outcome=Outcome.CANCEL_REFUSED)
            self.called_off.add(key)
            return _called_off(key)
        if parcel.state in (ACCEPTED, ParcelEnd.CALLED_OFF):
            parcel.state = ParcelEnd.CALLED_OFF.value
            self.schedule.note(f"the courier calls {key} off", parcel.reference)
            return _proven(parcel)
        return Proven(outcome=Outcome.CANCEL_REFUSED)

    def _later(self, change: Callable[[], None]) -> None:
        seconds = self._chance.choice(TAKES_S) * self._chance.random()
        self.schedule.at(self.schedule.now + timedelta(seconds=seconds), change)

    def _collect(self, parcel: Parcel) -> None:
        if parcel.state != ACCEPTED:
            return
        if self._chance.random() < 0.15:
            self._end(parcel, ParcelEnd.NOT_COLLECTED)
            return
        parcel.state = COLLECTED
        self.schedule.note(f"the courier collects {parcel.key}", parcel.reference)
        self.on_change()
        self._later(lambda: self._end(parcel, self._chance.choice(ENDS)))

    def _end(self, parcel: Parcel, end: ParcelEnd) -> None:
        parcel.state = end.value
        if end is ParcelEnd.ARRIVED:
            parcel.pieces = self._pieces(parcel)
        self.schedule.note(f"the parcel {parcel.key} ends: {end.value} {parcel.pieces}", parcel.reference)
        self.on_change()
        self._send_webhooks(parcel)

    def _pieces(self, parcel: Parcel) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        for line in parcel.lines:
            conditions = [self._chance.choice(CONDITIONS) for _ in range(line.quantity)]
            found += [
                {"sku": line.sku, "quantity": conditions.count(condition), "condition": condition}
                for condition in ("good", "damaged")
                if condition in conditions
            ]
        return found

    def _send_webhooks(self, parcel: Parcel) -> None:
        """Send the end: never, once or twice; at once or days later; now and then without the key of our request."""
        if self._chance.random() < self._lost_rate:
            self.schedule.faults["a callback is lost"] += 1
            return
        for number in range(2 if self._chance.random() < 0.2 else 1):
            body = parcel.body
            if self._chance.random() < 0.3:
                del body["idempotency_key"]
            is_late = self._chance.random() < 0.2
            self.schedule.faults["a callback is late"] += is_late
            self.schedule.faults["a callback is doubled"] += number
            seconds = self._chance.random() * (LATE_S if is_late else WEBHOOK_S)
            payload = json.dumps({"event": f"collection.{parcel.state}", **body}).encode()
            self._send_at(timedelta(seconds=seconds), payload)

    def _send_at(self, wait: timedelta, body: bytes) -> None:
        self.schedule.at(self.schedule.now + wait, lambda: self.send(body))


def _proven(parcel: Parcel) -> Proven:
    answer = answer_of(parcel.body)
    assert isinstance(answer, Proven), "the parcel has ended"
    return answer


def _called_off(key: str) -> Proven:
    answer = answer_of({"collection_id": None, "status": ParcelEnd.CALLED_OFF.value, "idempotency_key": key})
    assert isinstance(answer, Proven), "it was called off"
    return answer
