"""The small APIs of a running system do what their descriptions say, for orders that there are and for any id."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shop import SKU, Shop

from stack import Stack

EXAMPLES_MAX = 15
"""Of each operation and kind of request; three times as many found nothing more."""
LASTS_MAX_S = 100
APIS = ("inventory", "loyalty", "payment", "shipping", "ledger", "saga-tracker-api")


@pytest.fixture(scope="module")
def shop(system: Stack) -> Iterator[Shop]:
    shop = Shop(stack=system)
    shop.stock()
    try:
        yield shop
    finally:
        shop.http.close()


@pytest.fixture(scope="module")
def ended(shop: Shop) -> str:
    """An order that every service has a row of."""
    order_id = shop.place(points=50).order_id
    assert shop.outcome(order_id)["saga"]["state"] == "CONFIRMED"
    return order_id


def token(shop: Shop) -> str:
    wanted = {"sub": "staff", "roles": ["storefront", "support", "operator"], "ttl_s": 3_600}
    answer = shop.http.post(f"{shop.stack.endpoints.url('issuer')}/token", json=wanted)
    return str(answer.json()["access_token"])


@pytest.mark.parametrize("service", APIS)
@pytest.mark.parametrize("known", [True, False], ids=["a known id", "any id"])
def test_an_api_does_what_its_description_says(
    shop: Shop, ended: str, service: str, known: bool, tmp_path: Path
) -> None:
    """Requests that fit the description may still be refused: it cannot say which orders there are."""
    if known:
        (tmp_path / "schemathesis.toml").write_text(f'[parameters]\nsku = "{SKU}"\nsaga_id = "{ended}"\n')
    url, authorization = shop.stack.endpoints.url(service), f"Bearer {token(shop)}"
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
        *("--header", f"Authorization: {authorization}", "--exclude-checks", "positive_data_acceptance"),
        *("--exclude-path", "/readyz", "--max-examples", str(EXAMPLES_MAX), "--seed", "1", "--no-color"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LASTS_MAX_S, check=False)
    assert run.returncode == 0, run.stdout
