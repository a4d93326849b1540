"""Any request to any API is answered as its description says, or with a clear refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest

from chassis.http.problem import MEDIA_TYPE
from chassis.wire.envelope import new_id
from stack.gateways import ACCOUNTS
from support.shop import SKU, Shop

Ask: TypeAlias = Callable[..., httpx.Response]
EXAMPLES_MAX = 6
"""For each operation, besides those at its description's limits; eight times as many found nothing more."""
APIS = ("checkout", "inventory", "loyalty", "payment", "shipping", "ledger", "saga-tracker-api")
LATER_APIS = ("notifier", "reconciliation", "risk")
"""Each is tried once, with any id and few examples. Merchant's has such a test beside its own ones."""
LATER_EXAMPLES_MAX = 4
EVERY_API = (*APIS, *LATER_APIS, "merchant")
LASTS_MAX_S = 100
STALE_IS_A_REFUSAL = '[checks.negative_data_rejection]\nexpected-statuses = ["4xx", "503"]'
"""A request with an older version of a saga gets 412 before the rest of it is validated."""
WAITS_FOR_PARTITIONS = "/readyz"
"""It may answer 503 at any time; the stack's own start waits for it."""


@pytest.fixture(scope="package")
def ended(besieged: Shop) -> str:
    """An order with a row in every service."""
    order_id = besieged.place(points=50).order_id
    assert besieged.outcome(order_id)["saga"]["state"] == "CONFIRMED"
    return order_id


@pytest.mark.parametrize("known", [True, False], ids=["a known id", "any id"])
@pytest.mark.parametrize("service", APIS)
def test_an_api_does_what_its_description_says(
    besieged: Shop, ended: str, service: str, known: bool, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Requests that fit the description may still be refused, since it cannot list the existing orders.

    With any id, only the paths with an id are tried again; the others were tried with known ids.

    It runs as a command, because its plugin does not support pytest 9. Its output contains the commands that repeat a
    failure.
    """
    configured = [STALE_IS_A_REFUSAL]
    if known:
        names = {"sku": SKU, "saga_id": ended, "order_id": ended}
        configured += ["[parameters]", *(f'{name} = "{value}"' for name, value in names.items())]
    (tmp_path / "schemathesis.toml").write_text("\n".join(configured))
    options = ["--max-examples", str(EXAMPLES_MAX), "--seed", str(pytestconfig.getoption("hypothesis_seed"))]
    options += () if known else ("--include-path-regex", r"\{")
    explore(besieged.stack.endpoints.url(service), besieged.token(), options, tmp_path)


@pytest.mark.parametrize("service", LATER_APIS)
def test_an_api_of_payments_does_what_its_description_says(
    besieged: Shop, service: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    options = ["--max-examples", str(LATER_EXAMPLES_MAX), "--seed", str(pytestconfig.getoption("hypothesis_seed"))]
    token = merchants_token(besieged) if service == "notifier" else besieged.token()
    explore(besieged.stack.endpoints.url(service), token, options, tmp_path)


def explore(url: str, token: str, options: Sequence[str], folder: Path) -> None:
    """Send the requests of an API's description, and check the answers. The folder may have a configuration."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", "--checks", "all"),
        *("--exclude-checks", "positive_data_acceptance", "--exclude-path", WAITS_FOR_PARTITIONS, "--no-color"),
        *options,
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LASTS_MAX_S, check=False)
    assert run.returncode == 0, run.stdout


def merchants_token(besieged: Shop) -> str:
    """Return a token of a merchant in test mode, which merchant alone issues."""
    merchant_id = f"m-{new_id().lower()}"
    body = {"merchant_id": merchant_id, "name": "A shop", "currencies": ["USD"], "price": {"basis_points": 250}}
    besieged.call("merchant", "POST", "/v1/merchants", body)
    key = besieged.call("merchant", "POST", f"/v1/merchants/{merchant_id}/api-keys", {"is_live": False})["api_key"]
    url = f"{besieged.stack.endpoints.url('merchant')}/v1/tokens"
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": new_id()}
    return str(besieged.http.post(url, headers=headers).json()["access_token"])


CART = {
    "customer_id": "c",
    "currency": "USD",
    "lines": [{"sku": SKU, "quantity": 1}],
    "payment_method": {"token": "t"},
    "ship_to": {"name": "A", "street": "B", "city": "C", "postal_code": "1", "country": "KE"},
}
LEVEL = {"sku": "fuzzed", "on_hand": 1}
BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 422),
    "half of it": (b"{", 400),
    "no UTF-8": (b'{"sku": "\xff\xfe"}', 400),
    "thirty thousand brackets": (b"[" * 30_000 + b"]" * 30_000, 400),
    "a number of six thousand digits": (b"9" * 6_000, 400),
    "not a number": (b"NaN", 422),
    "without end": (b'[{"sku": "a", "on_hand": Infinity}]', 422),
    "half a character": (b'[{"sku": "\\ud800", "on_hand": 1}]', 422),
    "a NUL": (b'[{"sku": "\\u0000", "on_hand": 1}]', 422),
    "a fraction": (b'[{"sku": "a", "on_hand": 1.5}]', 422),
    "too long": (b" " * 9_000_000, 413),
}
WRITES = (
    ("inventory", "PUT", "/v1/stock"),
    ("loyalty", "PUT", "/v1/accounts"),
    ("checkout", "POST", "/v1/orders"),
    ("checkout", "PUT", "/v1/catalogue"),
    ("ledger", "POST", "/v1/manual-postings"),
    ("ledger", "POST", "/v1/day-closes"),
    ("merchant", "POST", "/v1/merchants"),
    ("reconciliation", "POST", "/v1/reconciliation-requests"),
    ("risk", "POST", "/v1/blocks"),
    ("risk", "POST", "/v1/dry-runs"),
)
PYTHONS_WORDS = ("pydantic", "Input should", "validation", "Tuple", "dictionary", "instance of", "keyword", "parsing")
"""Words of the implementation, which no client should see."""


@pytest.fixture
def ask(besieged: Shop) -> Ask:
    """Send a request as staff."""
    authorization = f"Bearer {besieged.token()}"
    staff = {"Authorization": authorization, "Idempotency-Key": "fuzz", "Content-Type": "application/json"}

    def send(service: str, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
        url = f"{besieged.stack.endpoints.url(service)}{path}"
        return besieged.http.request(method, url, content=content, headers={**staff, **headers})

    return send


def check_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["status"] == status
    assert not [word for word in PYTHONS_WORDS if word in answer.text], answer.text[:300]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("service", "method", "path"), WRITES)
def test_an_invalid_body_is_refused_in_our_words(ask: Ask, service: str, method: str, path: str, body: str) -> None:
    content, status = BODIES[body]
    check_problem(ask(service, method, path, content), status)


@pytest.mark.parametrize(("service", "method", "path"), WRITES)
def test_a_body_of_another_kind_is_415(ask: Ask, service: str, method: str, path: str) -> None:
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", "/"):
        content = json.dumps(CART if path == "/v1/orders" else [LEVEL]).encode()
        check_problem(ask(service, method, path, content, **{"Content-Type": kind}), 415)


@pytest.mark.parametrize("body", BODIES)
def test_a_webhook_of_a_gateway_that_is_not_signed_is_refused_whatever_it_is(ask: Ask, body: str) -> None:
    content, status = BODIES[body]
    for account in (each.name for each in ACCOUNTS):
        check_problem(ask("payment", "POST", f"/v1/callbacks/{account}", content), status if status == 413 else 401)


@pytest.mark.parametrize(
    "path",
    [
        *(f"/v1/stock/{odd}" for odd in ("%00", "a%00b", "%0A", "%ed%a0%80", "a" * 9_000)),
        *(f"/v1/stock/{odd}" for odd in ("..%2f..%2fetc", "%2e%2e", "")),
    ],
    ids=lambda path: path[:24],
)
def test_an_odd_path_finds_nothing(ask: Ask, path: str) -> None:
    answer = ask("inventory", "GET", path)
    check_problem(answer, answer.status_code)
    assert answer.status_code in (404, 405, 422)


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PATCH", "QUERY", "DELETE"])
@pytest.mark.parametrize("service", [*EVERY_API, "gateway", "courier", "issuer"])
def test_a_method_that_a_path_does_not_have_is_405_with_those_that_it_has(ask: Ask, service: str, method: str) -> None:
    answer = ask(service, method, "/livez")
    assert (answer.status_code, answer.headers["content-type"]) == (405, MEDIA_TYPE)
    assert set(answer.headers["Allow"].split(", ")) <= {"GET", "HEAD"}


@pytest.mark.parametrize("body", [body for body in BODIES if body not in ("nothing", "too long")])
@pytest.mark.parametrize(
    ("simulator", "path"), [("gateway", "/v1/authorizations"), ("courier", "/v1/shipments"), ("issuer", "/token")]
)
def test_a_simulator_refuses_an_invalid_body(ask: Ask, simulator: str, path: str, body: str) -> None:
    answer = ask(simulator, "POST", path, BODIES[body][0])
    assert (answer.status_code, answer.headers["content-type"]) == (400, MEDIA_TYPE)


def test_a_simulator_refuses_too_large_a_number(ask: Ask) -> None:
    answer = ask("gateway", "GET", f"/admin/records?after={'9' * 5_000}")
    assert (answer.status_code, answer.headers["content-type"]) == (400, MEDIA_TYPE)
