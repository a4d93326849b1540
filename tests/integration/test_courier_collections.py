"""Shipping's adapter against the courier's simulator: what is collected, called off, refused, and reported."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest
import urllib3

from chassis.http.downstream import Downstream, Unavailable, UnforeseenAnswer
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer
from chassis.saga.attempts import Outcome
from messages.checkout import Address, OrderLine
from shipping.callbacks import CourierCallbacks
from shipping.courier import Pickup
from shipping.http_courier import HttpCourier
from shipping.parcels import ParcelEnd, Piece, Report
from simulators.testing import SimulatorProcess, running
from support.waiting import until

SECRET = b"a-secret-of-both"
DAY_S = 0.3
WITHIN_S = 20.0
Webhook = tuple[list[tuple[str, str]], bytes]


class Shop:
    """Takes the courier's webhooks as they come."""

    def __init__(self) -> None:
        taken: list[Webhook] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taken.append(([(name.lower(), value) for name, value in self.headers.items()], body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self.taken = taken
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/callbacks/courier"

    def about(self, reference: str) -> list[Webhook]:
        return [each for each in self.taken if json.loads(each[1])["reference"] == reference]


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.server.shutdown()
    shop.server.server_close()


@pytest.fixture(scope="module")
def quick(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """A courier whose days are short, with webhooks to the shop."""
    folder: Path = tmp_path_factory.mktemp("quick")
    (folder / "secret").write_bytes(SECRET + b"\nthe-one-before\n")
    environment = {
        "BARAZA_SIMULATOR_RECORDS": str(folder / "records.db"),
        "BARAZA_COURIER_DAY_S": str(DAY_S),
        "BARAZA_COURIER_WEBHOOK_URL": shop.url,
        "BARAZA_COURIER_WEBHOOK_SECRET_FILE": str(folder / "secret"),
    }
    with running("courier", environment) as process:
        yield process


@pytest.fixture
def key() -> str:
    return f"{uuid4()}:collect_parcel"


def of(courier: SimulatorProcess) -> HttpCourier:
    return HttpCourier(Downstream("courier", courier.url, timeout_s=2.0, concurrency_max=8))


def pickup(key: str, *, postal_code: str = "45202") -> Pickup:
    more = dict.fromkeys(("street_2", "region", "phone"))
    address = Address(name="A", street="B", city="C", postal_code=postal_code, country="US", **more)
    lines = [OrderLine(sku="cup", quantity=2, unit_price_minor=5), OrderLine(sku="tea", quantity=1, unit_price_minor=5)]
    return Pickup(reference=reference(key), collect_from=address, lines=lines)


def reference(key: str) -> str:
    return key.partition(":")[0]


def fault(simulator: SimulatorProcess, **fault: object) -> None:
    assert urllib3.request("POST", f"{simulator.url}/admin/faults", json=fault).status == 201


def proven(adapter: HttpCourier, key: str) -> Proven:
    """Query until an outcome is proven."""

    def look() -> QueryAnswer:
        return adapter.find_collection(key, None)

    found = until(look, f"the collection of {key} ends", holds=lambda each: isinstance(each, Proven), within_s=WITHIN_S)
    assert isinstance(found, Proven)
    return found


def test_a_collection_is_accepted_once_for_its_key_and_found_by_it(courier: SimulatorProcess, key: str) -> None:
    adapter = of(courier)
    assert adapter.find_collection(key, None) == NotFound()
    accepted = adapter.collect(pickup(key), key)
    assert isinstance(accepted, Accepted)
    assert accepted.provider_id is not None
    assert accepted.provider_id.startswith("courier:COL_")
    assert adapter.collect(pickup(key), key) == accepted
    assert adapter.find_collection(key, accepted.provider_id) == accepted


def test_one_whose_answer_was_lost_is_found_and_called_off_by_its_key(courier: SimulatorProcess, key: str) -> None:
    adapter = of(courier)
    fault(courier, operation="collect", kind="answer_lost", match=reference(key))
    with pytest.raises(Unavailable):
        adapter.collect(pickup(key), key)
    assert isinstance(adapter.find_collection(key, None), Accepted)
    called_off = adapter.call_off(key, None)
    assert called_off.outcome is Outcome.VOIDED
    assert adapter.call_off(key, None) == called_off
    assert adapter.find_collection(key, None) == called_off


def test_one_that_is_called_off_before_it_arrives_is_never_collected(courier: SimulatorProcess, key: str) -> None:
    adapter = of(courier)
    assert adapter.call_off(key, None).outcome is Outcome.VOIDED
    found = adapter.find_collection(key, None)
    assert isinstance(found, Proven)
    assert found.outcome is Outcome.VOIDED
    late = adapter.collect(pickup(key), key)
    assert isinstance(late, Proven)
    assert late.outcome is Outcome.VOIDED


def test_a_request_that_is_still_under_way_is_not_taken_for_one_that_failed(
    courier: SimulatorProcess, key: str
) -> None:
    adapter = of(courier)
    fault(courier, operation="collect", kind="hang", match=reference(key), delay_s=6)
    with pytest.raises(Unavailable):
        adapter.collect(pickup(key), key)
    assert adapter.find_collection(key, None) == NotFound()
    with pytest.raises(Unavailable, match="still busy with this key"):
        adapter.collect(pickup(key), key)
    assert adapter.call_off(key, None).outcome is Outcome.VOIDED

    def is_refused() -> bool:
        try:
            return isinstance(adapter.collect(pickup(key), key), Proven)
        except Unavailable:
            return False

    until(is_refused, "the request arrives after its cancel, and is refused", within_s=WITHIN_S)
    found = adapter.find_collection(key, None)
    assert isinstance(found, Proven)
    assert found.outcome is Outcome.VOIDED


def test_an_address_at_which_the_courier_does_not_collect_is_refused_for_good(
    courier: SimulatorProcess, key: str
) -> None:
    adapter = of(courier)
    refused = adapter.collect(pickup(key, postal_code="NOT-COLLECTABLE"), key)
    assert refused == Proven(outcome=Outcome.REFUSED, detail=Report(end=ParcelEnd.NOT_COLLECTABLE).detail)
    assert adapter.collect(pickup(key, postal_code="NOT-COLLECTABLE"), key) == refused


def test_an_unexpected_answer_proves_nothing(courier: SimulatorProcess, key: str) -> None:
    adapter = of(courier)
    fault(courier, operation="collect", kind="reject", match=reference(key), code="mystery")
    with pytest.raises(UnforeseenAnswer, match="answered 422 mystery"):
        adapter.collect(pickup(key), key)
    fault(courier, operation="call_off", kind="reject", match=key, code="mystery")
    with pytest.raises(UnforeseenAnswer, match="answered 409 mystery"):
        adapter.call_off(key, None)


ALL = (Piece(sku="cup", quantity=2), Piece(sku="tea", quantity=1))
DAMAGED = tuple(Piece(sku=each.sku, quantity=each.quantity, is_damaged=True) for each in ALL)


@pytest.mark.parametrize(
    ("postal_code", "outcome", "report"),
    [
        ("45202", Outcome.SUCCEEDED, Report(end=ParcelEnd.ARRIVED, pieces=ALL)),
        ("LOST-PARCEL", Outcome.SUCCEEDED, Report(end=ParcelEnd.LOST)),
        ("DAMAGED-PARCEL", Outcome.SUCCEEDED, Report(end=ParcelEnd.ARRIVED, pieces=DAMAGED)),
        ("SHORT-PARCEL", Outcome.SUCCEEDED, Report(end=ParcelEnd.ARRIVED, pieces=ALL[:1])),
        ("NOT-COLLECTED", Outcome.REFUSED, Report(end=ParcelEnd.NOT_COLLECTED)),
    ],
)
def test_an_end_is_the_same_by_query_and_by_webhook(
    quick: SimulatorProcess, shop: Shop, key: str, postal_code: str, outcome: Outcome, report: Report
) -> None:
    adapter, callbacks = of(quick), CourierCallbacks(secrets=lambda: (SECRET,))
    adapter.collect(pickup(key, postal_code=postal_code), key)
    found = proven(adapter, key)
    assert (found.outcome, found.detail) == (outcome, report.detail)
    until(lambda: shop.about(reference(key)), "the webhook comes", within_s=WITHIN_S)
    ((headers, body),) = shop.about(reference(key))
    callbacks.authenticate(headers, body, datetime.now(UTC))
    claim = callbacks.read(headers, body)
    assert claim is not None
    assert (claim.key, claim.outcome, claim.provider_id) == (key, found.outcome, found.provider_id)
    assert (claim.reference, claim.detail) == (found.reference, found.detail)
    assert adapter.call_off(key, None) == Proven(outcome=Outcome.CANCEL_REFUSED)


def test_a_courier_that_contradicts_itself_reports_both(quick: SimulatorProcess, shop: Shop, key: str) -> None:
    of(quick).collect(pickup(key, postal_code="FAILED-THEN-ARRIVED"), key)
    until(lambda: len(shop.about(reference(key))) == 2, "both webhooks come", within_s=WITHIN_S)
    callbacks = CourierCallbacks(secrets=lambda: (SECRET,))
    claims = [callbacks.read(*each) for each in shop.about(reference(key))]
    assert [claim and claim.outcome for claim in claims] == [Outcome.REFUSED, Outcome.SUCCEEDED]


def test_a_webhook_names_the_key_of_a_request_whose_answer_never_came(
    quick: SimulatorProcess, shop: Shop, key: str
) -> None:
    fault(quick, operation="collect", kind="answer_lost", match=reference(key))
    with pytest.raises(Unavailable):
        of(quick).collect(pickup(key), key)
    until(lambda: shop.about(reference(key)), "the webhook comes", within_s=WITHIN_S)
    claim = CourierCallbacks(secrets=lambda: (SECRET,)).read(*shop.about(reference(key))[0])
    assert claim is not None
    assert claim.key == key


def test_of_a_lost_webhook_the_query_knows_and_a_doubled_one_is_the_same_twice(
    quick: SimulatorProcess, shop: Shop, key: str
) -> None:
    lost, doubled = f"{uuid4()}:collect_parcel", f"{uuid4()}:collect_parcel"
    fault(quick, operation="webhook", kind="answer_lost", match=reference(lost))
    fault(quick, operation="webhook", kind="hang", match=reference(doubled), delay_s=0.1)
    for each in (lost, doubled):
        of(quick).collect(pickup(each), each)
    until(lambda: len(shop.about(reference(doubled))) == 2, "both copies come", within_s=WITHIN_S)
    assert len({body for _, body in shop.about(reference(doubled))}) == 1
    assert proven(of(quick), lost).outcome is Outcome.SUCCEEDED
    assert shop.about(reference(lost)) == []
