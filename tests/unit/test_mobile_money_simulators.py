"""The simulated providers of mobile money start as processes and answer whether they are healthy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import urllib3

from simulators.testing import running
from stack import providers, short_codes
from stack.home import Home


@pytest.mark.parametrize("provider", providers.MOBILE_MONEY)
def test_a_provider_of_mobile_money_starts_with_its_short_codes(provider: str, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    short_codes.ensure_secrets(home)
    file = short_codes.for_simulator(home, provider)
    records = str(tmp_path / "records.sqlite")
    variables = {"BARAZA_SIMULATOR_SHORT_CODES": str(file), "BARAZA_SIMULATOR_RECORDS": records}
    with running(provider, variables) as process:
        answer = urllib3.request("GET", f"{process.url}/readyz", retries=False, timeout=10)
    assert (answer.status, json.loads(answer.data)["short_codes"]) == (200, 1)
