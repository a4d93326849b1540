"""What merchants and staff do over HTTP with endpoints and deliveries; one merchant sees nothing of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from chassis.http.auth import Verifier
from chassis.process import service
from chassis.process.service import Dependencies
from chassis.settings import Settings
from notifier.api import routers
from notifier.calling import Caller
from notifier.domain import EventType
from notifier.endpoint_api import Resources
from notifier.model.addresses import Rules
from notifier.sealing import Sealing
from notifier.store import replays
from notifier.store.endpoints import ENDPOINTS_MAX
from support.issuer import token, verifying
from support.notifiers import CODEC, LOOPBACK, NotifierUnderTest, new_merchant
from support.receivers import Receiver, Reply, receiving

ENDPOINTS = "/v1/webhook-endpoints"
UNKNOWN = "0" * 26
EVERYTHING = ("SELECT * FROM endpoints", "SELECT * FROM endpoint_secrets", "SELECT * FROM deliveries")


class Api:
    """Notifier's API, as its callers see it."""

    def __init__(self, notifier: NotifierUnderTest, verifier: Verifier, rules: Rules = LOOPBACK) -> None:
        settings = Settings(
            service="notifier", kafka="", registry_url="", database_url="", database_password_file=Path("none")
        )
        dependencies = Dependencies(settings=settings, engine=notifier.engine, codec=CODEC, verifier=verifier)
        resources = Resources(
            engine=notifier.engine, codec=CODEC, caller=Caller(rules), sealing=Sealing(notifier.key_file),
            clock=notifier.clock,
        )  # fmt: skip
        self.app = service.api("Notifier", dependencies, *routers(resources))

    def as_(self, subject: str, *roles: str) -> TestClient:
        return TestClient(self.app, headers={"Authorization": f"Bearer {token(subject, *roles)}"})

    def merchant(self, merchant: str, mode: str = "test") -> TestClient:
        return self.as_(merchant, "merchant", mode)


@pytest.fixture
def api(notifier: NotifierUnderTest) -> Iterator[Api]:
    with verifying() as verifier:
        yield Api(notifier, verifier)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def created(client: TestClient, url: str, **more: Any) -> Any:
    answer = client.post(ENDPOINTS, json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def ok(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def test_an_endpoint_is_created_with_a_secret_that_is_shown_once(
    notifier: NotifierUnderTest, api: Api, receiver: Receiver
) -> None:
    merchant = new_merchant()
    client = api.merchant(merchant)
    answer = client.post(ENDPOINTS, json={"url": receiver.url, "description": "Shop", "types": ["refund.failed"]})
    body = ok(answer, 201)
    assert answer.headers["location"] == f"{ENDPOINTS}/{body['endpoint_id']}"
    assert answer.headers["cache-control"] == "no-store"
    shown = ok(client.get(answer.headers["location"]))
    assert shown == {name: value for name, value in body.items() if name != "secret"}
    assert (shown["is_enabled"], shown["is_live"], shown["types"]) == (True, False, ["refund.failed"])
    assert "whsec_" not in client.get(ENDPOINTS).text
    assert notifier.rows("SELECT * FROM endpoint_secrets WHERE position('whsec' IN encode(sealed, 'escape')) > 0") == []
    notifier.notify((merchant, False), EventType.REFUND_FAILED)
    notifier.notify((merchant, False), EventType.DISPUTE_WON)
    notifier.deliver()
    (request,) = receiver.requests
    assert request.verify(body["secret"])["type"] == "refund.failed"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/url"),
        ({"url": "http://example.com/"}, "#/url"),
        ({"url": "https://user@example.com/"}, "#/url"),
        ({"url": "https://example.com:22/"}, "#/url"),
        ({"url": "https://10.0.0.1/"}, "#/url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "#/url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "#/url"),
        ({"url": "https://name.invalid/"}, "#/url"),
        ({"url": 5}, "#/url"),
        ({"url": "https://8.8.8.8/", "types": ["ping"]}, "#/types"),
        ({"url": "https://8.8.8.8/", "types": ["odd"]}, "#/types/0"),
        ({"url": "https://8.8.8.8/", "secret": "mine"}, "#/secret"),
        ({"url": "https://8.8.8.8/", "description": "a\u0000b"}, "#/description"),
    ],
)
def test_an_address_that_is_never_called_is_refused_and_so_is_every_odd_field(
    api: Api, body: dict[str, Any], pointer: str
) -> None:
    client = api.merchant(new_merchant())
    answer = ok(client.post(ENDPOINTS, json=body), 422)
    assert [error["pointer"] for error in answer["errors"]] == [pointer]
    assert ok(client.get(ENDPOINTS))["endpoints"] == []


def test_live_mode_is_https_alone_and_apart_from_test_mode(api: Api, receiver: Receiver) -> None:
    merchant = new_merchant()
    live, test = api.merchant(merchant, "live"), api.merchant(merchant)
    assert live.post(ENDPOINTS, json={"url": receiver.url}).status_code == 422
    of_test = created(test, receiver.url)
    of_live = created(live, "https://8.8.8.8/")
    assert [each["endpoint_id"] for each in ok(live.get(ENDPOINTS))["endpoints"]] == [of_live["endpoint_id"]]
    assert live.get(f"{ENDPOINTS}/{of_test['endpoint_id']}").status_code == 404
    assert test.get(f"{ENDPOINTS}/{of_live['endpoint_id']}").status_code == 404


def test_a_changed_address_is_checked_as_a_new_one_is(api: Api, receiver: Receiver) -> None:
    client = api.merchant(new_merchant())
    path = f"{ENDPOINTS}/{created(client, receiver.url, description='A')['endpoint_id']}"
    assert client.patch(path, json={"url": "https://192.168.0.1/"}).status_code == 422
    changed = ok(client.patch(path, json={"url": "https://8.8.8.8/a", "types": ["dispute.won", "dispute.won"]}))
    assert (changed["url"], changed["types"], changed["description"]) == ("https://8.8.8.8/a", ["dispute.won"], "A")
    assert ok(client.patch(path, json={"types": []}))["types"] == []


def test_an_address_is_taken_once_and_endpoints_are_limited(api: Api) -> None:
    client = api.merchant(new_merchant())
    first = created(client, "https://8.8.8.8/0")
    again = ok(client.post(ENDPOINTS, json={"url": "https://8.8.8.8/0"}), 409)
    assert again["endpoint_id"] == first["endpoint_id"]
    for number in range(1, ENDPOINTS_MAX):
        created(client, f"https://8.8.8.8/{number}")
    assert client.post(ENDPOINTS, json={"url": "https://8.8.8.8/more"}).status_code == 409
    assert ok(client.patch(f"{ENDPOINTS}/{first['endpoint_id']}", json={"url": "https://8.8.8.8/1"}), 409)
    assert client.delete(f"{ENDPOINTS}/{first['endpoint_id']}").status_code == 204
    assert client.get(f"{ENDPOINTS}/{first['endpoint_id']}").status_code == 404
    created(client, "https://8.8.8.8/0")


def test_lists_have_pages(notifier: NotifierUnderTest, api: Api, receiver: Receiver) -> None:
    merchant = new_merchant()
    client = api.merchant(merchant)
    for number in range(3):
        created(client, f"{receiver.url}/{number}")
    for _ in range(3):
        notifier.notify((merchant, False))
    notifier.deliver()
    expected = {ENDPOINTS: 3, "/v1/webhook-events": 3, "/v1/webhook-deliveries": 9, "/v1/webhook-attempts": 9}
    for path, count in expected.items():
        name, found, cursor = path.rpartition("-")[2], [], None
        while True:
            page = ok(client.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {})))
            assert len(page[name]) <= 2
            found += [str(each) for each in page[name]]
            if (cursor := page["next_cursor"]) is None:
                break
        assert len(set(found)) == len(found) == count
    assert client.get("/v1/webhook-events", params={"cursor": "ABC"}).status_code == 422
    assert client.get("/v1/webhook-events", params={"cursor": "9" * 26}).status_code == 422
    assert client.get("/v1/webhook-events", params={"odd": "1"}).status_code == 422


def test_a_rotated_secret_signs_beside_the_one_before_for_a_day(
    notifier: NotifierUnderTest, api: Api, receiver: Receiver
) -> None:
    merchant = new_merchant()
    client = api.merchant(merchant)
    body = created(client, receiver.url)
    rotated = ok(client.post(f"{ENDPOINTS}/{body['endpoint_id']}/secret-rotation"))
    assert rotated["secret"] != body["secret"]
    process = notifier.deliverer()
    notifier.notify((merchant, False))
    notifier.deliver(process)
    for secret in (body["secret"], rotated["secret"]):
        receiver.requests[0].verify(secret)
    notifier.clock.move(hours=24)
    notifier.notify((merchant, False))
    notifier.deliver(process)
    assert receiver.requests[1].headers["webhook-signature"].count("v1,") == 1


def test_however_often_a_secret_is_rotated_a_few_sign(notifier: NotifierUnderTest, api: Api) -> None:
    client = api.merchant(new_merchant())
    body = created(client, "https://8.8.8.8/")
    for _ in range(9):
        ok(client.post(f"{ENDPOINTS}/{body['endpoint_id']}/secret-rotation"))
    rows = notifier.rows("SELECT expires_at FROM endpoint_secrets WHERE endpoint_id = :id", id=body["endpoint_id"])
    assert len(rows) == 5
    assert [expires_at for (expires_at,) in rows].count(None) == 1


def test_a_test_event_goes_to_the_one_endpoint(notifier: NotifierUnderTest, api: Api, receiver: Receiver) -> None:
    merchant = new_merchant()
    client = api.merchant(merchant)
    body = created(client, receiver.url, types=["dispute.won"])
    created(client, f"{receiver.url}/other")
    planned = ok(client.post(f"{ENDPOINTS}/{body['endpoint_id']}/ping"), 202)
    notifier.clock.move(seconds=60)
    notifier.deliver()
    (request,) = receiver.requests
    assert (request.path, request.id) == ("/hooks", planned["event_id"])
    assert request.content["type"] == "ping"
    delivery = ok(client.get(f"/v1/webhook-deliveries/{planned['delivery_id']}"))
    assert (delivery["cause"], delivery["state"], delivery["last_status"]) == ("PING", "DELIVERED", 204)
    assert notifier.published((merchant, False)) == []


def test_a_delivery_is_replayed_under_the_same_id(notifier: NotifierUnderTest, api: Api, receiver: Receiver) -> None:
    merchant = new_merchant()
    client, process = api.merchant(merchant), notifier.deliverer()
    body = created(client, receiver.url)
    event_id = notifier.notify((merchant, False))
    notifier.deliver(process)
    (first,) = ok(client.get("/v1/webhook-deliveries"))["deliveries"]
    again = [ok(client.post(f"/v1/webhook-deliveries/{first['delivery_id']}/replay"), 202) for _ in range(2)]
    assert again[0] == again[1], "one that is due already is not planned twice"
    notifier.deliver(process)
    assert receiver.ids == [event_id, event_id]
    assert len({each.body for each in receiver.requests}) == 1
    causes = [each["cause"] for each in ok(client.get("/v1/webhook-deliveries"))["deliveries"]]
    assert causes == ["REPLAY", "EVENT"]
    ok(client.post(f"{ENDPOINTS}/{body['endpoint_id']}/disabling"))
    assert client.post(f"/v1/webhook-deliveries/{first['delivery_id']}/replay").status_code == 409


def test_a_replay_of_what_waits_for_its_next_attempt_is_made_at_once(notifier: NotifierUnderTest, api: Api) -> None:
    merchant = new_merchant()
    client, process = api.merchant(merchant), notifier.deliverer()
    with receiving(Reply(status=500)) as receiver:
        created(client, receiver.url)
        notifier.notify((merchant, False))
        notifier.deliver(process)
        (delivery,) = ok(client.get("/v1/webhook-deliveries", params={"state": "DUE"}))["deliveries"]
        assert delivery["next_attempt_at"] is not None
        made = ok(client.post(f"/v1/webhook-deliveries/{delivery['delivery_id']}/replay"), 202)
        assert made["delivery_id"] == delivery["delivery_id"]
        assert notifier.deliver(process) == 1


def test_a_range_is_replayed_with_what_occurred_while_the_endpoint_was_disabled(
    notifier: NotifierUnderTest, api: Api, receiver: Receiver
) -> None:
    merchant = new_merchant()
    client, process = api.merchant(merchant), notifier.deliverer()
    path = f"{ENDPOINTS}/{created(client, receiver.url)['endpoint_id']}"
    began = notifier.clock()
    delivered = notifier.notify((merchant, False))
    notifier.deliver(process)
    assert ok(client.post(f"{path}/disabling"))["disabled_because"] == "MERCHANT"
    notifier.clock.move(seconds=10)
    missed = notifier.notify((merchant, False), EventType.DISPUTE_CREATED)
    span = {"since": began.isoformat(), "until": (notifier.clock() + timedelta(seconds=1)).isoformat()}
    assert client.post(f"{path}/replay", json=span).status_code == 409
    assert ok(client.post(f"{path}/enabling"))["is_enabled"]
    answer = ok(client.post(f"{path}/replay", json=span), 202)
    assert answer == {"events": 1, "deliveries": 1, "next_after": None}
    assert ok(client.post(f"{path}/replay", json=span), 202)["deliveries"] == 0
    notifier.deliver(process)
    assert receiver.ids == [delivered, missed]
    everything = ok(client.post(f"{path}/replay", json=span | {"only_failed": False}), 202)
    assert everything["deliveries"] == 2
    notifier.deliver(process)
    assert sorted(receiver.ids) == sorted([delivered, missed] * 2)
    assert client.post(f"{path}/replay", json={"since": span["until"], "until": span["since"]}).status_code == 422


def test_a_long_range_is_replayed_in_pieces(
    notifier: NotifierUnderTest, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "REPLAY_MAX", 2)
    merchant = new_merchant()
    client = api.merchant(merchant)
    began = notifier.clock()
    for _ in range(5):
        notifier.notify((merchant, False))
    path = f"{ENDPOINTS}/{created(client, 'https://8.8.8.8/')['endpoint_id']}"
    span: dict[str, Any] = {
        "since": began.isoformat(),
        "until": (began + timedelta(hours=1)).isoformat(),
        "after": "0",
    }
    counts = []
    while span["after"] is not None:
        answer = ok(client.post(f"{path}/replay", json=span), 202)
        counts.append(answer["deliveries"])
        span["after"] = answer["next_after"]
    assert counts == [2, 2, 1]


def test_events_and_attempts_are_filtered(notifier: NotifierUnderTest, api: Api) -> None:
    merchant = new_merchant()
    client, process = api.merchant(merchant), notifier.deliverer()
    with receiving(Reply(status=500, body=b"a secret of the receiver")) as receiver:
        body = created(client, receiver.url)
        event_id = notifier.notify((merchant, False), EventType.REFUND_FAILED)
        notifier.deliver(process)
        receiver.reply = lambda _: Reply()
        notifier.clock.move(minutes=1)
        notifier.deliver(process)
    attempts = client.get("/v1/webhook-attempts")
    assert "a secret of the receiver" not in attempts.text
    assert [each["outcome"] for each in ok(attempts)["attempts"]] == ["SUCCEEDED", "REFUSED"]
    failed = ok(client.get("/v1/webhook-attempts", params={"only_failed": True, "endpoint_id": body["endpoint_id"]}))
    assert [(each["status"], each["event_id"]) for each in failed["attempts"]] == [(500, event_id)]
    assert ok(client.get("/v1/webhook-events", params={"type": "dispute.won"}))["events"] == []
    (event,) = ok(client.get("/v1/webhook-events", params={"type": "refund.failed"}))["events"]
    assert event == ok(client.get(f"/v1/webhook-events/{event_id}"))


def requests_of(endpoint_id: str, delivery_id: str, event_id: str) -> list[tuple[str, str, Any]]:
    """Return a request for every route that names something of a merchant."""
    span = {"since": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
    path = f"{ENDPOINTS}/{endpoint_id}"
    return [
        ("GET", path, None), ("PATCH", path, {"description": "mine"}), ("DELETE", path, None),
        ("POST", f"{path}/enabling", None), ("POST", f"{path}/disabling", None),
        ("POST", f"{path}/secret-rotation", None), ("POST", f"{path}/ping", None), ("POST", f"{path}/replay", span),
        ("GET", f"/v1/webhook-events/{event_id}", None), ("GET", f"/v1/webhook-deliveries/{delivery_id}", None),
        ("POST", f"/v1/webhook-deliveries/{delivery_id}/replay", None),
    ]  # fmt: skip


LISTS = (ENDPOINTS, "/v1/webhook-events", "/v1/webhook-deliveries", "/v1/webhook-attempts")


def template(path: str, ids: Sequence[str]) -> str:
    return "/".join("{}" if part in ids else part for part in path.split("/"))


def test_merchant_a_sees_nothing_of_merchant_b_nor_of_its_own_other_mode(
    notifier: NotifierUnderTest, api: Api, receiver: Receiver
) -> None:
    owner = new_merchant()
    body = created(api.merchant(owner), receiver.url)
    event_id = notifier.notify((owner, False))
    notifier.deliver()
    (delivery,) = ok(api.merchant(owner).get("/v1/webhook-deliveries"))["deliveries"]
    ids = (body["endpoint_id"], delivery["delivery_id"], event_id)
    before = [notifier.rows(query) for query in EVERYTHING]
    theirs = requests_of(*ids)
    declared = {
        (method.upper(), "/".join("{}" if part.startswith("{") else part for part in path.split("/")))
        for path, item in api.app.openapi()["paths"].items()
        for method in item
        if not path.startswith(("/v1/merchants/", "/v1/texts"))  # the latter are members', and for staff alone
    }
    walked = {(method, template(path, ids)) for method, path, _ in theirs}
    assert declared == walked | {("GET", path) for path in LISTS} | {("POST", ENDPOINTS)}
    for stranger in (api.merchant(new_merchant()), api.merchant(owner, "live")):
        for method, path, content in theirs:
            answer = stranger.request(method, path, json=content)
            same = stranger.request(method, path.replace(ids[0], UNKNOWN).replace(ids[1], UNKNOWN), json=content)
            assert answer.status_code == 404, (method, path)
            assert ids[2] in path or answer.content == same.content, "what is another's is as what does not exist"
        for path in LISTS:
            (_, found), (_, cursor) = ok(stranger.get(path)).items()
            assert (found, cursor) == ([], None)
        for name, id_ in (("endpoint_id", ids[0]), ("delivery_id", ids[1])):
            assert ok(stranger.get("/v1/webhook-attempts", params={name: id_}))["attempts"] == []
    assert before == [notifier.rows(query) for query in EVERYTHING]


def test_staff_read_and_operators_act_for_the_merchant_that_they_name(
    notifier: NotifierUnderTest, api: Api, receiver: Receiver
) -> None:
    merchant = new_merchant()
    body = created(api.merchant(merchant), receiver.url)
    notifier.notify((merchant, False))
    notifier.deliver()
    support, operator = api.as_("sue", "support"), api.as_("olga", "operator")
    own = f"/v1/merchants/{merchant}/test"
    (delivery,) = ok(support.get(f"{own}/webhook-deliveries"))["deliveries"]
    path = f"{own}/webhook-endpoints/{body['endpoint_id']}"
    assert "whsec_" not in support.get(path).text
    assert ok(support.get(f"{own}/webhook-attempts"))["attempts"][0]["status"] == 204
    acts = [f"{path}/ping", f"{own}/webhook-deliveries/{delivery['delivery_id']}/replay", f"{path}/disabling"]
    for act in acts:
        assert support.post(act).status_code == 403
        assert operator.post(act).is_success
    assert ok(api.merchant(merchant).get(f"{ENDPOINTS}/{body['endpoint_id']}"))["disabled_because"] == "OPERATOR"
    for other in (f"/v1/merchants/{new_merchant()}/test", f"/v1/merchants/{merchant}/live"):
        assert ok(support.get(f"{other}/webhook-endpoints"))["endpoints"] == []
        assert operator.get(f"{other}/webhook-endpoints/{body['endpoint_id']}").status_code == 404
        assert operator.post(f"{other}/webhook-endpoints/{body['endpoint_id']}/enabling").status_code == 404
    for method, missing in (("POST", f"{own}/webhook-endpoints"), ("POST", f"{path}/secret-rotation")):
        assert operator.request(method, missing).status_code in (404, 405), "staff never see a secret"
    assert api.merchant(merchant).get(f"{own}/webhook-endpoints").status_code == 403


@pytest.mark.parametrize("roles", [("merchant",), ("merchant", "live", "test"), ("live",), ("support",), ()])
def test_a_merchants_token_has_one_mode(api: Api, roles: tuple[str, ...]) -> None:
    assert api.as_("m", *roles).get(ENDPOINTS).status_code == 403
    assert TestClient(api.app).get(ENDPOINTS).status_code == 401


def test_without_a_key_no_endpoint_is_created(notifier: NotifierUnderTest, api: Api) -> None:
    notifier.key_file.write_text("")
    answer = api.merchant(new_merchant()).post(ENDPOINTS, json={"url": "https://8.8.8.8/"})
    assert answer.status_code == 503
    with notifier.engine.connect() as tx:
        assert tx.execute(text("SELECT count(*) FROM endpoints")).scalar_one() == 0
