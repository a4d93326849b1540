"""The result of a run, for a person and as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from baraza.audit.report import Report
from baraza.demo.payments.closing import Reconciled
from baraza.demo.payments.lake import Queried
from baraza.demo.payments.plan import Scored
from baraza.demo.payments.run import Payments
from baraza.terminal import put_table

CAPTURED = frozenset({"CAPTURED", "PARTLY_REFUNDED", "REFUNDED", "DISPUTED", "DISPUTE_LOST"})
REFUNDED = frozenset({"PARTLY_REFUNDED", "REFUNDED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOfPayments:
    """A run with all that judges it."""

    payments: Payments
    acts: Mapping[str, int]
    delivered: Counter[str]
    refused_deliveries: int
    reconciled: Reconciled
    trial_balance: Mapping[str, Any]
    queried: Queried
    scored: Scored
    report: Report
    took_s: float

    @property
    def is_good(self) -> bool:
        """Whether everything is as it must be."""
        found = self.reconciled
        return not found.missed and not found.false and self.trial_balance["balanced"] and self.report.is_green

    def summary(self) -> dict[str, Any]:
        """Return the run as one JSON object."""
        statuses = self.payments.statuses()
        return {
            "payments": len(self.payments.shown),
            "captured": sum(count for status, count in statuses.items() if status in CAPTURED),
            "declined": statuses["FAILED"],
            "refunded": sum(count for status, count in statuses.items() if status in REFUNDED),
            "deliveries": self.delivered.total(),
            "divergences_planted": len(self.reconciled.planted),
            "divergences_found": self.reconciled.found,
            "false_divergences": len(self.reconciled.false),
            "trial_balance": "balanced" if self.trial_balance["balanced"] else "not balanced",
            "audit": "green" if self.report.is_green else "red",
            "payouts_that_do_not_sum": len(self.reconciled.unsummed),
            "by_status": dict(statuses.most_common()),
            "acts": dict(self.acts),
            "deliveries_by_type": dict(self.delivered.most_common()),
            "deliveries_with_a_wrong_signature": self.refused_deliveries,
            "refusals": dict(self.payments.refusals.most_common()),
            "fraud_labels": "synthetic",
            "fraud_injected": self.scored.injected,
            "fraud_blocked": self.scored.blocked,
            "fraud_precision": _rounded(self.scored.precision),
            "fraud_recall": _rounded(self.scored.recall),
            "parquet_files": list(self.queried.files),
            "broken_invariants": [each.invariant.name for each in self.report.findings if each.total],
            "took_s": round(self.took_s, 1),
        }


def write(result: DemoOfPayments, put: Callable[[str], None]) -> None:
    """Write the result for a person."""
    summary = result.summary()
    put(f"{summary['payments']} payments in {summary['took_s']} s: " + _counts(summary["by_status"]))
    put(f"Then: {_counts(result.acts)}.")
    put(f"Webhooks delivered and verified: {summary['deliveries']} ({_counts(summary['deliveries_by_type'])}).")
    put(f"Trial balance of the chart merchants_test: {summary['trial_balance']}.")
    for currency, sums in result.trial_balance["totals"].items():
        put(f"  {currency}  debits {sums['debits']:>14}  credits {sums['credits']:>14}")
    found = result.reconciled
    put(
        f"Reconciliation: {len(found.planted)} divergences planted in the gateways' reports, {found.found} of them "
        f"found, {len(found.false)} found besides."
    )
    for each in found.unsummed:
        put(f"  follows from what was planted: {each['detail']}")
    for each in found.missed:
        put(f"  missed: {each}")
    for each in found.false:
        put(f"  not planted: {each['kind']} {each['key']} {each['detail']}")
    scored = result.scored
    put(
        f"Fraud: {scored.injected} payments were injected by rule and labelled so, risk blocked {scored.blocked}. "
        f"Precision {_rounded(scored.precision)}, recall {_rounded(scored.recall)}. The labels are synthetic: "
        f"this says how the rules see this injection, and nothing about fraud outside."
    )
    put(f"Parquet: {', '.join(result.queried.files)}. One query over it:")
    put_table(result.queried.columns, result.queried.rows)


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.lower()}" for name, count in found.items()) or "nothing"


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 3)
