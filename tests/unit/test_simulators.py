"""The simulated gateway and courier over real HTTP: keys, faults, records, and their state after SIGKILL."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import urllib3

from simulators.courier import Shipment
from simulators.testing import SimulatorProcess, running

Answer = urllib3.BaseHTTPResponse
Json = dict[str, object]

WAIT_S_MAX = 60.0
UNDER_WAY_S = 4.0
"""How long a call is under way that a test looks at meanwhile: a loaded machine takes long for that."""


@pytest.fixture
def reference() -> str:
    return f"saga-{uuid4()}"


def post(
    simulator: SimulatorProcess,
    path: str,
    body: Json,
    *,
    key: str | None = None,
    fault: str | None = None,
    timeout_s: float = 10,
) -> Answer:
    headers = {"Idempotency-Key": key or str(uuid4())} | ({"X-Fault": fault} if fault else {})
    return urllib3.request("POST", simulator.url + path, json=body, headers=headers, retries=False, timeout=timeout_s)


def get(simulator: SimulatorProcess, path: str) -> Answer:
    return urllib3.request("GET", simulator.url + path, retries=False, timeout=10)


def authorization(reference: str, *, amount_minor: int = 1000, token: str = "tok_visa") -> Json:
    return {"amount_minor": amount_minor, "currency": "USD", "token": token, "reference": reference}


def shipment(reference: str, *, postal_code: str = "45202") -> Json:
    address = {"name": "A", "street": "B", "city": "C", "postal_code": postal_code, "country": "US"}
    return {"reference": reference, "ship_to": address, "lines": [{"sku": "1", "quantity": 2}]}


def authorize(gateway: SimulatorProcess, reference: str, *, amount_minor: int = 1000, token: str = "tok_visa") -> str:
    answer = post(gateway, "/v1/authorizations", authorization(reference, amount_minor=amount_minor, token=token))
    assert answer.status == 201
    return str(answer.json()["id"])


def records_of(simulator: SimulatorProcess, reference: str, kind: str) -> list[Json]:
    """Read the whole export in small pages and return what belongs to a reference."""
    found: list[Json] = []
    after: int | None = 0
    while after is not None:
        page = get(simulator, f"/admin/records?kind={kind}&after={after}&limit=7").json()
        found += [record for record in page["records"] if record["reference"] == reference]
        after = page["next"]
    return found


def until(description: str, condition: Callable[[], bool]) -> None:
    """Poll a described condition until it holds, or fail."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S_MAX} s: {description}"
        time.sleep(0.01)


def test_the_same_key_gets_the_same_answer_and_one_effect(gateway: SimulatorProcess, reference: str) -> None:
    first, second = (post(gateway, "/v1/authorizations", authorization(reference), key=reference) for _ in range(2))

    assert (first.status, second.status) == (201, 201)
    assert first.json() == second.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert len(records_of(gateway, reference, "authorization")) == 1


def test_the_same_key_with_another_body_or_operation_is_refused(gateway: SimulatorProcess, reference: str) -> None:
    post(gateway, "/v1/authorizations", authorization(reference), key=reference)
    other_body = post(gateway, "/v1/authorizations", authorization(reference, amount_minor=1), key=reference)
    other_operation = post(gateway, "/v1/authorizations/auth_1/void", {}, key=reference)

    for answer in (other_body, other_operation):
        assert (answer.status, answer.json()["code"]) == (422, "idempotency_mismatch")


def test_a_reordered_body_is_the_same_body(gateway: SimulatorProcess, reference: str) -> None:
    body = authorization(reference)
    post(gateway, "/v1/authorizations", body, key=reference)
    again = post(gateway, "/v1/authorizations", dict(reversed(body.items())), key=reference)

    assert again.headers["idempotent-replayed"] == "true"


def test_a_part_that_an_address_lacks_is_no_part_of_the_request(courier: SimulatorProcess, reference: str) -> None:
    """The release before knew no second line: what it recorded has no trace of one, and is the same request."""
    body, key = shipment(reference), f"{reference}:1"
    assert isinstance(body["ship_to"], dict)
    first = post(courier, "/v1/shipments", body, key=key)
    null = body | {"ship_to": body["ship_to"] | {"street_2": None, "phone": None}}
    other = body | {"ship_to": body["ship_to"] | {"street_2": "Flat 4"}}
    assert [post(courier, "/v1/shipments", each, key=key).status for each in (body, null, other)] == [201, 201, 422]
    assert first.status == 201
    known = b'{"reference":"r","ship_to":{"name":"A","street":"B","city":"C","postal_code":"45202","country":"US"}'
    assert Shipment.model_validate(shipment("r")).model_dump_json().encode().startswith(known)


def test_of_many_concurrent_calls_with_one_key_one_has_the_effect(gateway: SimulatorProcess, reference: str) -> None:
    with ThreadPoolExecutor(12) as threads:
        answers = list(
            threads.map(
                lambda _: post(gateway, "/v1/authorizations", authorization(reference), key=reference), range(12)
            )
        )

    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status == 201}) == 1
    assert len(records_of(gateway, reference, "authorization")) == 1


def test_a_key_under_way_is_refused_and_found_as_under_way(gateway: SimulatorProcess, reference: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        first: Future[Answer] = threads.submit(
            post,
            gateway,
            "/v1/authorizations",
            authorization(reference),
            key=reference,
            fault=f"hang; delay_s={UNDER_WAY_S}",
        )
        until("the call is under way", lambda: get(gateway, f"/v1/requests/{reference}").status == 409)
        second = post(gateway, "/v1/authorizations", authorization(reference), key=reference)

        assert (second.status, second.json()["code"]) == (409, "idempotency_in_progress")
        assert second.headers["retry-after"] == "1"
        assert first.result().status == 201


def test_an_unknown_key_is_not_found(gateway: SimulatorProcess, reference: str) -> None:
    answer = get(gateway, f"/v1/requests/{reference}")

    assert (answer.status, answer.json()["code"]) == (404, "request_not_found")


def test_a_lost_answer_leaves_its_effect(gateway: SimulatorProcess, reference: str) -> None:
    with pytest.raises(urllib3.exceptions.ProtocolError):
        post(gateway, "/v1/authorizations", authorization(reference), key=reference, fault="answer_lost")

    found = get(gateway, f"/v1/requests/{reference}").json()
    assert (found["operation"], found["status"], found["reference"]) == ("authorize", 201, reference)
    assert len(records_of(gateway, reference, "authorization")) == 1


def test_a_hanging_call_has_its_effect_after_the_caller_timed_out(gateway: SimulatorProcess, reference: str) -> None:
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        post(
            gateway,
            "/v1/authorizations",
            authorization(reference),
            key=reference,
            fault=f"hang; delay_s={UNDER_WAY_S}",
            timeout_s=0.2,
        )

    assert records_of(gateway, reference, "authorization") == []
    until("the late effect", lambda: get(gateway, f"/v1/requests/{reference}").status == 200)
    assert len(records_of(gateway, reference, "authorization")) == 1


def test_a_hanging_call_can_end_without_an_effect(gateway: SimulatorProcess, reference: str) -> None:
    with pytest.raises(urllib3.exceptions.ProtocolError):
        post(
            gateway,
            "/v1/authorizations",
            authorization(reference),
            key=reference,
            fault="hang; delay_s=0.1; effect=false",
        )

    assert get(gateway, f"/v1/requests/{reference}").status == 404


def test_a_slow_call_has_its_effect_before_its_answer(gateway: SimulatorProcess, reference: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(
            post,
            gateway,
            "/v1/authorizations",
            authorization(reference),
            key=reference,
            fault=f"slow; delay_s={UNDER_WAY_S}",
        )
        until("the effect", lambda: get(gateway, f"/v1/requests/{reference}").status == 200)

        assert not slow.done()
        assert slow.result().status == 201


@pytest.mark.parametrize(("fault", "status"), [("error; status=503", 503), ("rate_limited; retry_after_s=3", 429)])
def test_a_failure_has_no_effect_and_does_not_use_up_the_key(
    gateway: SimulatorProcess, reference: str, fault: str, status: int
) -> None:
    failed = post(gateway, "/v1/authorizations", authorization(reference), key=reference, fault=fault)
    found = get(gateway, f"/v1/requests/{reference}")
    again = post(gateway, "/v1/authorizations", authorization(reference), key=reference)

    assert (failed.status, found.status, again.status) == (status, 404, 201)
    assert failed.headers.get("retry-after") == ("3" if status == 429 else None)


def test_a_refusal_is_recorded_under_its_key(gateway: SimulatorProcess, reference: str) -> None:
    body = authorization(reference, token="tok_insufficient_funds")
    first, second = (post(gateway, "/v1/authorizations", body, key=reference) for _ in range(2))

    assert (first.status, first.json()["code"]) == (402, "insufficient_funds")
    assert second.headers["idempotent-replayed"] == "true"
    assert first.json() == second.json()
    assert records_of(gateway, reference, "authorization") == []


def test_a_fault_on_request_hits_one_reference_a_limited_number_of_times(
    gateway: SimulatorProcess, reference: str
) -> None:
    rule = {"operation": "authorize", "kind": "error", "match": reference, "times": 1}
    assert urllib3.request("POST", f"{gateway.url}/admin/faults", json=rule).status == 201

    statuses = [post(gateway, "/v1/authorizations", authorization(reference), key=reference).status for _ in range(2)]

    assert statuses == [500, 201]


def test_one_fault_is_removed_by_its_id(gateway: SimulatorProcess, reference: str) -> None:
    rule = {"operation": "authorize", "kind": "error", "match": reference}
    added = urllib3.request("POST", f"{gateway.url}/admin/faults", json=rule).json()

    assert urllib3.request("DELETE", f"{gateway.url}/admin/faults/{added['id']}").status == 204

    listed = urllib3.request("GET", f"{gateway.url}/admin/faults").json()["faults"]
    assert added["id"] not in [each["id"] for each in listed]
    assert post(gateway, "/v1/authorizations", authorization(reference)).status == 201


@pytest.mark.parametrize("rule", [{"operation": "fly", "kind": "error"}, {"operation": "book"}, {"rate": 2}])
def test_an_invalid_fault_is_refused(courier: SimulatorProcess, rule: Json) -> None:
    answer = urllib3.request("POST", f"{courier.url}/admin/faults", json=rule)

    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")


def test_an_authorization_is_captured_and_refunded_in_parts(gateway: SimulatorProcess, reference: str) -> None:
    authorization_id = authorize(gateway, reference)
    captured = post(gateway, f"/v1/authorizations/{authorization_id}/capture", {"amount_minor": 900})
    refunds = f"/v1/captures/{captured.json()['capture_id']}/refund"
    parts = [post(gateway, refunds, {"amount_minor": 400}), post(gateway, refunds, {})]
    too_much = post(gateway, refunds, {})

    assert [part.json()["amount_minor"] for part in parts] == [400, 500]
    assert (too_much.status, too_much.json()["code"]) == (409, "capture_refunded")
    (record,) = records_of(gateway, reference, "authorization")
    assert (record["state"], record["captured_minor"], record["refunded_minor"]) == ("refunded", 900, 900)
    assert len(records_of(gateway, reference, "refund")) == 2


def test_a_part_is_refunded_once_for_its_key_and_never_more_than_is_left(
    gateway: SimulatorProcess, reference: str
) -> None:
    captured = post(gateway, f"/v1/authorizations/{authorize(gateway, reference)}/capture", {})
    refunds = f"/v1/captures/{captured.json()['capture_id']}/refund"
    first, again = (post(gateway, refunds, {"amount_minor": 400}, key=f"{reference}:a") for _ in range(2))
    beyond = post(gateway, refunds, {"amount_minor": 601}, key=f"{reference}:b")

    assert (first.status, first.json()) == (201, again.json())
    assert (beyond.status, beyond.json()["code"]) == (422, "refund_exceeds_capture")
    (record,) = records_of(gateway, reference, "capture")
    assert (record["state"], record["amount_minor"], record["refunded_minor"]) == ("captured", 1000, 400)
    assert [refund["amount_minor"] for refund in records_of(gateway, reference, "refund")] == [400]


@pytest.mark.parametrize(
    ("done", "then", "status", "code"),
    [
        ([], "capture", 422, "capture_exceeds_authorization"),
        (["capture"], "capture", 409, "authorization_captured"),
        (["capture"], "void", 409, "authorization_captured"),
        (["void"], "capture", 409, "authorization_voided"),
        (["void"], "void", 409, "authorization_voided"),
    ],
)
def test_money_cannot_be_moved_twice(
    gateway: SimulatorProcess, reference: str, done: list[str], then: str, status: int, code: str
) -> None:
    path = f"/v1/authorizations/{authorize(gateway, reference)}"
    for operation in done:
        assert post(gateway, f"{path}/{operation}", {}).status == 201
    before = records_of(gateway, reference, "authorization")

    answer = post(gateway, f"{path}/{then}", {} if done else {"amount_minor": 1001})

    assert (answer.status, answer.json()["code"]) == (status, code)
    assert records_of(gateway, reference, "authorization") == before


def test_a_token_can_fail_only_the_capture(gateway: SimulatorProcess, reference: str) -> None:
    authorization_id = authorize(gateway, reference, token="tok_capture_declined")
    answer = post(gateway, f"/v1/authorizations/{authorization_id}/capture", {})

    assert (answer.status, answer.json()["code"]) == (402, "card_declined")


@pytest.mark.parametrize(
    "change",
    [{"amount_minor": -1}, {"amount_minor": 1.5}, {"amount_minor": "5"}, {"currency": "usd"}, {"card": "4111"}],
)
def test_the_answer_to_an_invalid_request_names_the_error(
    gateway: SimulatorProcess, reference: str, change: Json
) -> None:
    answer = post(gateway, "/v1/authorizations", {**authorization(reference), **change})

    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert next(iter(change)) in answer.json()["detail"]


def test_a_request_without_a_key_or_with_invalid_values_is_refused(gateway: SimulatorProcess) -> None:
    keyless = urllib3.request("POST", f"{gateway.url}/v1/authorizations", json=authorization("x"))
    garbage = urllib3.request(
        "POST", f"{gateway.url}/v1/authorizations", body=b"\xff{", headers={"Idempotency-Key": str(uuid4())}
    )
    huge = urllib3.request(
        "POST", f"{gateway.url}/v1/authorizations", body=b" " * 1_048_577, headers={"Idempotency-Key": str(uuid4())}
    )
    nowhere = urllib3.request("PUT", f"{gateway.url}/v1/authorizations")

    assert [answer.status for answer in (keyless, garbage, huge, nowhere)] == [400, 400, 413, 405]
    assert all(
        answer.headers["content-type"] == "application/problem+json" for answer in (keyless, garbage, huge, nowhere)
    )


def test_a_shipment_is_booked_and_cancelled_once(courier: SimulatorProcess, reference: str) -> None:
    number = post(courier, "/v1/shipments", shipment(reference)).json()["tracking_number"]
    assert [record["state"] for record in records_of(courier, reference, "shipment")] == ["live"]

    statuses = [post(courier, f"/v1/shipments/{number}/cancel", {}).status for _ in range(2)]

    assert statuses == [201, 409]
    assert [record["state"] for record in records_of(courier, reference, "shipment")] == ["cancelled"]


def test_an_address_can_be_undeliverable(courier: SimulatorProcess, reference: str) -> None:
    answer = post(courier, "/v1/shipments", shipment(reference, postal_code="UNDELIVERABLE"))

    assert (answer.status, answer.json()["code"]) == (422, "undeliverable_address")
    assert records_of(courier, reference, "shipment") == []


def test_every_answered_call_outlives_sigkill(tmp_path: Path) -> None:
    """Twelve callers call as fast as they can, until the process is killed."""
    answered: list[str] = []

    def call_until_killed(gateway: SimulatorProcess) -> None:
        while True:
            reference = f"saga-{uuid4()}"
            try:
                answer = post(gateway, "/v1/authorizations", authorization(reference), key=reference)
            except urllib3.exceptions.HTTPError:
                return
            if answer.status == 201:
                answered.append(reference)

    with running("gateway", {"BARAZA_SIMULATOR_RECORDS": str(tmp_path / "records.db")}) as gateway:
        with ThreadPoolExecutor(12) as threads:
            callers = [threads.submit(call_until_killed, gateway) for _ in range(12)]
            until("300 answers", lambda: len(answered) >= 300)
            gateway.kill()
        for caller in callers:
            caller.result()
        gateway.start()

        missing = [reference for reference in answered if get(gateway, f"/v1/requests/{reference}").status != 200]
        summary = get(gateway, "/admin/summary").json()

    assert missing == []
    assert summary["records"]["authorization"]["open"] == summary["requests"]["authorize"]["201"] >= len(answered)


def test_a_graceful_stop_does_not_wait_for_a_hanging_call(tmp_path: Path, reference: str) -> None:
    with running("gateway", {"BARAZA_SIMULATOR_RECORDS": str(tmp_path / "records.db")}) as gateway:
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(
                post, gateway, "/v1/authorizations", authorization(reference), key=reference, fault="hang; delay_s=600"
            )
            until("the call is under way", lambda: get(gateway, f"/v1/requests/{reference}").status == 409)
            gateway.stop()
            with pytest.raises(urllib3.exceptions.HTTPError):
                raise call.exception() or AssertionError(f"answered {call.result().status}")
        gateway.start()

        assert get(gateway, f"/v1/requests/{reference}").status == 404


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    process = SimulatorProcess("gateway", {})

    with pytest.raises(RuntimeError, match="ended with status 2"):
        process.start()
