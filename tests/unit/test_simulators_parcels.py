"""The courier collects parcels: accepted now, and there days later, with signed webhooks that may be late or lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from simulators import parcels, webhooks
from simulators.addresses import Address, Line, Nothing
from simulators.faults import Fault, FaultKind, Faults
from simulators.parcels import COLLECTION, DAMAGED, LOST, SHORT, WEBHOOK, Collection
from simulators.records import Record, Records
from simulators.simulator import Answer, Call

DAY_S = 10.0
SECRET = b"a secret of both"


@dataclass
class Courier:
    """The courier's records, its clock, and a shop that takes webhooks while it is up."""

    records: Records
    now: float = 1_000.0
    is_up: bool = True
    taken: list[dict[str, object]] = field(default_factory=list)
    signatures: list[tuple[str, str, bytes]] = field(default_factory=list)

    def collect(self, reference: str, *, token: str = "", quantity: int = 2) -> str:
        address = Address(name="A", street="B", country="US", postal_code=token or "45202")
        body = Collection(reference=reference, collect_from=address, lines=[Line(sku="1", quantity=quantity)])
        (operation, _) = parcels.operations(lambda: self.now, DAY_S)
        answer = self._apply(operation.apply, self._call(body, reference, token=body.fault_token))
        assert (answer.status, answer.body["status"]) == (202, "accepted")
        return str(answer.body["collection_id"])

    def call_off(self, collection_id: str) -> Answer:
        target = self.records.find(COLLECTION, collection_id)
        return self._apply(parcels.call_off, self._call(Nothing(), "", target_id=collection_id, target=target))

    def _apply(self, operation: Callable[..., Answer], call: Call) -> Answer:  # type: ignore[type-arg]
        with self.records.transaction():
            return operation(self.records, call)

    def _call(
        self, body: object, reference: str, *, token: str = "", target_id: str = "", target: Record | None = None
    ) -> Call:  # type: ignore[type-arg]
        return Call(
            key=f"key of {reference}", body=body, target_id=target_id, target=target, reference=reference, token=token,
            fingerprint=b"",
        )  # type: ignore[type-var]  # fmt: skip

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        parcels.advance(self.records, now=self.now, seed=1)
        webhooks.deliver(self.records, "http://shop", SECRET, clock=lambda: self.now, sending=self._take)

    def _take(self, _url: str, body: bytes, headers: dict[str, str]) -> int:
        if not self.is_up:
            return 0
        self.taken.append(json.loads(body))
        self.signatures.append((headers["Courier-Signature"], headers["Courier-Timestamp"], body))
        return 204

    def state(self, collection_id: str) -> str:
        found = self.records.find(COLLECTION, collection_id)
        assert found is not None
        return found.state

    def fault(self, kind: FaultKind, **more: object) -> None:
        Faults(self.records, seed=1).add(Fault(operation=WEBHOOK, kind=kind, **more))  # type: ignore[arg-type]


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    with Records.open(tmp_path / "courier.sqlite") as records:
        yield Courier(records)


def test_a_parcel_is_accepted_now_and_its_end_comes_days_later_by_a_signed_webhook(courier: Courier) -> None:
    collection_id = courier.collect("return-1")
    courier.pass_time(DAY_S)
    assert (courier.state(collection_id), courier.taken) == ("accepted", [])
    courier.pass_time(DAY_S)
    assert courier.state(collection_id) == "arrived"
    (taken,) = courier.taken
    assert taken["event"] == "collection.arrived"
    assert taken["pieces"] == [{"sku": "1", "quantity": 2, "condition": "good"}]
    ((signature, stamp, body),) = courier.signatures
    assert signature == webhooks.sign(SECRET, body, int(stamp))
    courier.pass_time(100 * DAY_S)
    assert len(courier.taken) == 1, "it ends once"


@pytest.mark.parametrize(
    ("token", "state", "pieces"),
    [
        (LOST, "lost", []),
        (DAMAGED, "arrived", [{"sku": "1", "quantity": 2, "condition": "damaged"}]),
        (SHORT, "arrived", [{"sku": "1", "quantity": 1, "condition": "good"}]),
    ],
)
def test_a_magic_postal_code_says_what_becomes_of_a_parcel(
    courier: Courier, token: str, state: str, pieces: list[object]
) -> None:
    collection_id = courier.collect("return-1", token=token)
    courier.pass_time(2 * DAY_S)
    assert courier.state(collection_id) == state
    assert courier.taken[0]["pieces"] == pieces


def test_a_collection_is_called_off_until_it_has_ended(courier: Courier) -> None:
    early, late = courier.collect("return-1"), courier.collect("return-2")
    assert courier.call_off(early).status == 201
    assert courier.call_off(early).status == 201, "another key finds it called off"
    courier.pass_time(2 * DAY_S)
    assert courier.state(early) == "called_off"
    assert [each["reference"] for each in courier.taken] == ["return-2"]
    refused = courier.call_off(late)
    assert (refused.status, refused.body["code"]) == (409, "already_collected")
    assert courier.call_off("COL_unknown").status == 404


def test_a_shop_that_is_away_gets_the_webhook_later(courier: Courier) -> None:
    courier.collect("return-1")
    courier.is_up = False
    courier.pass_time(2 * DAY_S)
    courier.is_up = True
    courier.pass_time(0.5)
    assert courier.taken == [], "it is sent again after a second"
    courier.pass_time(0.6)
    assert len(courier.taken) == 1


def test_a_webhook_may_be_late_doubled_or_lost(courier: Courier) -> None:
    courier.fault(FaultKind.SLOW, match="late", delay_s=50)
    courier.fault(FaultKind.HANG, match="doubled", delay_s=50)
    courier.fault(FaultKind.ANSWER_LOST, match="lost")
    for reference in ("late", "doubled", "lost"):
        courier.collect(reference)
    courier.pass_time(2 * DAY_S)
    assert [each["reference"] for each in courier.taken] == ["doubled"]
    courier.pass_time(60)
    assert sorted(str(each["reference"]) for each in courier.taken) == ["doubled", "doubled", "late"]
    ended = courier.records.of_state(COLLECTION, "arrived", 10)
    assert [each.reference for each in ended] == ["late", "doubled", "lost"], "the day list has what no webhook carried"
