"""The reconciliation of the simulated gateways' test accounts: their batches closed, each compared, what diverges."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from baraza.system.client import TIMEOUT_S, Api, trust
from baraza.system.running import Running
from baraza.terminal import Refusal

ACCOUNTS: Final = {"stripe": "stripe-test", "adyen": "adyen-test"}
"""The account of test mode at each gateway."""
DONE_WITHIN_S = 180.0
POLL_S = 0.5
LISTED_MAX = 1_000
AHEAD = timedelta(days=40)
"""As of then nothing is pending any more."""


def close_batch(stack: Running, gateway: str, account: str) -> None:
    """Let a gateway end the day of an account and publish its report. Raises Refusal."""
    admin(stack, gateway, "POST", "/admin/batches/close", {"account": account})


def run(api: Api, account: str) -> Mapping[str, Any]:
    """Compare an account's reports with the ledger and our records, and return the run. Raises Refusal."""
    as_of = (datetime.now(UTC) + AHEAD).isoformat().replace("+00:00", "Z")
    requested = api.call("POST", "/v1/reconciliation-requests", body={"account": account, "as_of": as_of})
    deadline = time.monotonic() + DONE_WITHIN_S
    while time.monotonic() < deadline:
        found = api.get(f"/v1/reconciliation-requests/{requested['request_id']}")
        if found["failure"] is not None:
            raise Refusal(f"{account} cannot be reconciled: {found['failure']}")
        if found["run"] is not None:
            answer: Mapping[str, Any] = api.get(f"/v1/reconciliation-runs/{found['run']}")
            return answer
        time.sleep(POLL_S)
    raise Refusal(f"{account} is not reconciled after {DONE_WITHIN_S:.0f} s.")


def open_divergences(api: Api, account: str) -> list[Mapping[str, Any]]:
    """Return what diverges in an account and is not closed by a person. Raises Refused or Unreachable."""
    wanted: dict[str, str | int] = {"account": account, "state": "OPEN", "limit": LISTED_MAX}
    found: list[Mapping[str, Any]] = api.get("/v1/divergences", wanted)["divergences"]
    return found


def admin(stack: Running, gateway: str, method: str, path: str, body: Any = None) -> Any:
    """Return a simulated gateway's answer to a request of its admin API. Raises Refusal."""
    url = f"{stack.url(gateway)}{path}"
    answer = httpx.request(method, url, json=body, timeout=TIMEOUT_S, trust_env=False, verify=trust())
    if not answer.is_success:
        raise Refusal(f"{gateway} answered {method} {path} with {answer.status_code}: {answer.text}")
    return answer.json() if answer.content else None
