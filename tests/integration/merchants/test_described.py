"""Any request to merchant's API is answered as its description says, or with a clear refusal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.checkouts import Api, token
from support.merchants import MerchantStack, registered

EXAMPLES_MAX = 5
"""For each operation, besides those at its description's limits."""
LASTS_MAX_S = 280


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ["merchant", "operator"])
def test_the_api_does_what_its_description_says(
    merchant_stack: MerchantStack, api: Api, role: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """It runs as a command, because its plugin does not support pytest 9. It may close its merchant and revoke keys."""
    shop = registered(merchant_stack, api)
    payment = shop.captured()
    names = {"payment_id": payment["id"], "merchant_id": shop.merchant_id}
    configured = ["[parameters]", *(f'{name} = "{value}"' for name, value in names.items())]
    (tmp_path / "schemathesis.toml").write_text("\n".join(configured))
    bearer = shop.keys[False] if role == "merchant" else token("staff-1", [role])
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{api.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {bearer}", "--checks", "all", "--no-color"),
        *("--exclude-checks", "positive_data_acceptance", "--exclude-path", "/readyz"),
        *("--max-examples", str(EXAMPLES_MAX), "--seed", str(pytestconfig.getoption("hypothesis_seed"))),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LASTS_MAX_S, check=False)
    assert run.returncode == 0, run.stdout


def test_every_operation_names_its_refusals(api: Api) -> None:
    described = httpx.get(f"{api.url}/openapi.json").json()["paths"]
    own = {(path, method): operation for path, item in described.items() if path.startswith("/v1")
           for method, operation in item.items()}  # fmt: skip
    assert len(own) == 16
    for (path, method), operation in own.items():
        assert {"401", "403", "422", "429", "503"} <= operation["responses"].keys(), (method, path)
        assert operation["description"]
