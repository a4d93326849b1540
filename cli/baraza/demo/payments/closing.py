"""The end of a run: gateways close their batches with planted divergences, and everything is compared and queried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from baraza.demo.payments.plan import GATEWAYS
from baraza.demo.payments.run import POLL_S
from baraza.system.client import TIMEOUT_S, Api, Refused, trust
from baraza.system.running import Running
from baraza.terminal import Refusal

ACCOUNTS = tuple(f"{gateway}-test" for gateway in GATEWAYS.values())
CHART = "merchants_test"
PLANTED = ("drop", "amount", "unknown")
"""What is planted in the reports of each account: a missing line, another amount, and a line of an unknown payment."""
FAULTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "stripe": (
        {"operation": "confirm", "kind": "answer_lost", "rate": 0.03, "times": 1},
        {"operation": "capture", "kind": "error_after", "rate": 0.03, "times": 1},
        {"operation": "create", "kind": "error", "rate": 0.02, "times": 1},
        {"operation": "webhook", "kind": "slow", "rate": 0.2, "delay_s": 4.0},
        {"operation": "webhook", "kind": "hang", "rate": 0.1, "delay_s": 3.0},
    ),
    "adyen": (
        {"operation": "pay", "kind": "answer_lost", "rate": 0.03, "times": 1},
        {"operation": "capture", "kind": "answer_lost", "rate": 0.03, "times": 1},
        {"operation": "webhook", "kind": "slow", "rate": 0.2, "delay_s": 4.0},
        {"operation": "webhook", "kind": "hang", "rate": 0.1, "delay_s": 3.0},
    ),
}
"""Lost answers, failures before and after the effect, and webhooks that are late or come twice."""
DONE_WITHIN_S = 180.0
QUIET_S = 3.0
AHEAD = timedelta(days=40)
"""As of then nothing is pending any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What was planted, and what the reconciliation found of it and besides."""

    planted: Sequence[Mapping[str, Any]]
    missed: Sequence[Mapping[str, Any]]
    unsummed: Sequence[Mapping[str, Any]]
    """Payouts that are not the sum of their lines, in an account whose lines were planted."""
    false: Sequence[Mapping[str, Any]]
    runs: Mapping[str, Mapping[str, Any]]

    @property
    def found(self) -> int:
        """How many of the planted divergences were found."""
        return len(self.planted) - len(self.missed)


@contextmanager
def disturbed(stack: Running) -> Iterator[None]:
    """Disturb both gateways for the block; the faults that they had are replaced."""
    try:
        for gateway, faults in FAULTS.items():
            _admin(stack, gateway, "DELETE", "/admin/faults")
            for fault in faults:
                _admin(stack, gateway, "POST", "/admin/faults", dict(fault))
        yield
    finally:
        for gateway in FAULTS:
            _admin(stack, gateway, "DELETE", "/admin/faults")


def wait_for_deliveries(count: Callable[[], int], expected: int) -> int:
    """Wait until so many events came and no further ones come, and return how many there are."""
    deadline, seen, since_s = time.monotonic() + DONE_WITHIN_S, -1, time.monotonic()
    while time.monotonic() < deadline:
        now = count()
        if now != seen:
            seen, since_s = now, time.monotonic()
        if seen >= expected and time.monotonic() - since_s > QUIET_S:
            break
        time.sleep(POLL_S)
    return seen


def reconcile(stack: Running) -> Reconciled:
    """Plant divergences, close the batches, run the reconciliation, and compare what it found. Raises Refusal.

    What an earlier run on the same stack has planted is still open, and is not false.
    """
    planted: list[Mapping[str, Any]] = []
    for gateway, account in zip(GATEWAYS.values(), ACCOUNTS, strict=True):
        for kind in PLANTED:
            answer = _admin(stack, gateway, "POST", "/admin/divergences", {"account": account, "kind": kind})
            planted += answer["planted"]
        _admin(stack, gateway, "POST", "/admin/batches/close", {"account": account})
    runs, divergences = {}, []
    with stack.api("reconciliation") as api:
        for account in ACCOUNTS:
            runs[account] = _run(api, account)
            wanted: dict[str, str | int] = {"account": account, "state": "OPEN", "limit": 1_000}
            divergences += api.get("/v1/divergences", wanted)["divergences"]
    missed = [each for each in planted if not any(_is_about(found, each) for found in divergences)]
    known = [
        each for gateway in GATEWAYS.values() for each in _admin(stack, gateway, "GET", "/admin/divergences")["planted"]
    ]
    besides = [found for found in divergences if not any(_is_about(found, each) for each in known)]
    unsummed = [found for found in besides if found["movement"] == "PAYOUT"]
    return Reconciled(
        planted=planted,
        missed=missed,
        unsummed=unsummed,
        false=[found for found in besides if found not in unsummed],
        runs=runs,
    )


def _is_about(found: Mapping[str, Any], planted: Mapping[str, Any]) -> bool:
    reference = str(planted["reference"])
    if found["account"] != planted["account"]:
        return False
    return reference == str(found["payment_id"]) or reference in f"{found['key']} {found['detail']}"


def _run(api: Api, account: str) -> Mapping[str, Any]:
    as_of = (datetime.now(UTC) + AHEAD).isoformat().replace("+00:00", "Z")
    body = {"account": account, "as_of": as_of}
    requested = api.call("POST", "/v1/reconciliation-requests", body=body)
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


def trial_balance(stack: Running) -> Mapping[str, Any]:
    """Return the trial balance of the merchants' chart of today, and whether its debits equal its credits."""
    with stack.api("ledger") as api:
        found = api.get("/v1/trial-balance", {"chart": CHART, "day": datetime.now(UTC).date().isoformat()})
    totals: dict[str, list[int]] = {}
    for line in found["lines"]:
        sums = totals.setdefault(line["currency"], [0, 0])
        sums[0] += int(line["debits"])
        sums[1] += int(line["credits"])
    return {
        "balanced": all(debits == credits_ for debits, credits_ in totals.values()),
        "totals": {
            currency: {"debits": debits, "credits": credits_} for currency, (debits, credits_) in totals.items()
        },
        "lines": found["lines"],
    }


def blocked_by_risk(stack: Running, payment_ids: Sequence[str]) -> set[str]:
    """Return which of these payments risk has blocked."""
    blocked = set()
    with stack.api("risk") as api:
        for payment_id in payment_ids:
            try:
                found = api.get(f"/v1/decisions/{payment_id}")
            except Refused:
                continue
            if found["outcome"] == "BLOCKED":
                blocked.add(payment_id)
    return blocked


def _admin(stack: Running, gateway: str, method: str, path: str, body: Any = None) -> Any:
    url = f"{stack.url(gateway)}{path}"
    answer = httpx.request(method, url, json=body, timeout=TIMEOUT_S, trust_env=False, verify=trust())
    if not answer.is_success:
        raise Refusal(f"{gateway} answered {method} {path} with {answer.status_code}: {answer.text}")
    return answer.json() if answer.content else None
