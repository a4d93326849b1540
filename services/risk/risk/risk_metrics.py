"""What risk counts about its decisions. A batch that is repeated after a failure is counted again."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter

from risk.domain import Decision

DECISIONS = Counter(
    "baraza_risk_decisions_total",
    "Decided payments by outcome: validated or blocked, and whether a rule could not be evaluated.",
    ["outcome", "undecided"],
)


def count(decisions: Iterable[Decision]) -> None:
    """Count these decisions."""
    for decision in decisions:
        outcome = "blocked" if decision.is_blocked else "validated"
        DECISIONS.labels(outcome, "yes" if decision.is_undecided else "no").inc()
