"""The end of a run: gateways close their batches with planted divergences, and everything is compared and queried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from baraza.demo.payments.run import POLL_S
from baraza.system import reconciliation
from baraza.system.client import Refused
from baraza.system.reconciliation import ACCOUNTS, admin
from baraza.system.running import Running

CHART = "merchants_test"
PLANTED = ("drop", "amount", "unknown")
"""What is planted in the reports of each account: a missing line, another amount, and a line of an unknown payment."""
DONE_WITHIN_S = 180.0
QUIET_S = 3.0


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
    for gateway, account in ACCOUNTS.items():
        for kind in PLANTED:
            answer = admin(stack, gateway, "POST", "/admin/divergences", {"account": account, "kind": kind})
            planted += answer["planted"]
        reconciliation.close_batch(stack, gateway, account)
    runs, divergences = {}, []
    with stack.api("reconciliation") as api:
        for account in ACCOUNTS.values():
            runs[account] = reconciliation.run(api, account)
            divergences += reconciliation.open_divergences(api, account)
    missed = [each for each in planted if not any(_is_about(found, each) for found in divergences)]
    known = [each for gateway in ACCOUNTS for each in admin(stack, gateway, "GET", "/admin/divergences")["planted"]]
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
