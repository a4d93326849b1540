"""The courier collects parcels: accepted now, and there days later, with signed webhooks that may be late or lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simulators import parcels, webhooks
from simulators.addresses import Address, Line, Nothing
from simulators.faults import Fault, FaultKind, Faults
from simulators.parcels import (
    COLLECTION,
    DAMAGED,
    FAILED_THEN_ARRIVED,
    LOST,
    NOT_COLLECTED,
    SHORT,
    WEBHOOK,
    Collection,
)
from simulators.records import Records
from simulators.simulator import Answer, Call, id_of

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
        answer = self.request(reference, token=token, quantity=quantity)
        assert (answer.status, answer.body["status"]) == (202, "accepted")
        return str(answer.body["collection_id"])

    def request(self, reference: str, *, token: str = "", quantity: int = 2) -> Answer:
        address = Address(name="A", street="B", country="US", postal_code=token or "45202")
        body = Collection(reference=reference, collect_from=address, lines=[Line(sku="1", quantity=quantity)])
        (operation, _) = parcels.operations(lambda: self.now, DAY_S)
        return self._apply(operation.apply, self._call(body, reference, token=body.fault_token))

    def call_off(self, reference: str) -> Answer:
        return self._apply(parcels.call_off, self._call(Nothing(), "", target_id=key_of(reference)))

    def _apply(self, operation: Callable[..., Answer], call: Call[Any]) -> Answer:
        with self.records.transaction():
            return operation(self.records, call)

    def _call(self, body: object, reference: str, *, token: str = "", target_id: str = "") -> Call[Any]:
        return Call(
            key=key_of(reference), body=body, target_id=target_id, target=None, reference=reference, token=token,
            fingerprint=b"",
        )  # fmt: skip

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

    def state(self, reference: str) -> str:
        found = self.records.find(COLLECTION, id_of("COL", key_of(reference)))
        assert found is not None
        return found.state

    def fault(self, kind: FaultKind, **more: object) -> None:
        Faults(self.records, seed=1).add(Fault(operation=WEBHOOK, kind=kind, **more))


def key_of(reference: str) -> str:
    return f"key of {reference}"


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    with Records.open(tmp_path / "courier.sqlite") as records:
        yield Courier(records)


def test_a_parcel_is_accepted_now_and_its_end_comes_days_later_by_a_signed_webhook(courier: Courier) -> None:
    courier.collect("return-1")
    courier.pass_time(DAY_S - 1)
    assert (courier.state("return-1"), courier.taken) == ("accepted", [])
    courier.pass_time(1)
    assert (courier.state("return-1"), courier.taken) == ("collected", [])
    courier.pass_time(DAY_S)
    assert courier.state("return-1") == "arrived"
    (taken,) = courier.taken
    assert (taken["event"], taken["idempotency_key"]) == ("collection.arrived", key_of("return-1"))
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
    courier.collect("return-1", token=token)
    courier.pass_time(DAY_S)
    courier.pass_time(DAY_S)
    assert courier.state("return-1") == state
    assert courier.taken[0]["pieces"] == pieces


def test_a_parcel_that_is_not_handed_over_ends_on_the_day_of_its_collection(courier: Courier) -> None:
    courier.collect("return-1", token=NOT_COLLECTED)
    for _ in range(3):
        courier.pass_time(DAY_S)
    assert [each["event"] for each in courier.taken] == ["collection.not_collected"]


def test_a_courier_may_contradict_itself(courier: Courier) -> None:
    courier.collect("return-1", token=FAILED_THEN_ARRIVED)
    for _ in range(3):
        courier.pass_time(DAY_S)
    assert [each["event"] for each in courier.taken] == ["collection.not_collected", "collection.arrived"]
    assert courier.taken[1]["pieces"] == [{"sku": "1", "quantity": 2, "condition": "good"}]


def test_a_collection_is_called_off_by_its_key_until_it_is_collected(courier: Courier) -> None:
    courier.collect("return-1")
    courier.collect("return-2")
    assert courier.call_off("return-1").status == 201
    assert courier.call_off("return-1").status == 201, "another request finds it called off"
    courier.pass_time(DAY_S)
    refused = courier.call_off("return-2")
    assert (refused.status, refused.body["code"]) == (409, "already_collected")
    courier.pass_time(DAY_S)
    assert (courier.state("return-1"), courier.state("return-2")) == ("called_off", "arrived")
    assert [each["reference"] for each in courier.taken] == ["return-2"]
    assert courier.call_off("return-2").body["code"] == "already_ended"


def test_what_is_called_off_before_its_request_arrives_is_not_collected(courier: Courier) -> None:
    called_off = courier.call_off("return-1")
    assert (called_off.status, called_off.body["status"]) == (201, "called_off")
    assert courier.call_off("return-1").status == 201
    late = courier.request("return-1")
    assert (late.status, late.body["code"]) == (409, "called_off")
    courier.pass_time(DAY_S)
    assert courier.records.of_state(COLLECTION, "collected", 10) == []


def test_a_shop_that_is_away_gets_the_webhook_later(courier: Courier) -> None:
    courier.collect("return-1")
    courier.is_up = False
    courier.pass_time(DAY_S)
    courier.pass_time(DAY_S)
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
    courier.pass_time(DAY_S)
    courier.pass_time(DAY_S)
    assert [each["reference"] for each in courier.taken] == ["doubled"]
    courier.pass_time(60)
    assert sorted(str(each["reference"]) for each in courier.taken) == ["doubled", "doubled", "late"]
    ended = courier.records.of_state(COLLECTION, "arrived", 10)
    assert [each.reference for each in ended] == ["late", "doubled", "lost"], "the day list has what no webhook carried"
