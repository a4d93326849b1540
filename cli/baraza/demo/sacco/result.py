"""The result of a run, for a person and as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baraza.audit.report import Report
from baraza.demo.sacco.closing import Closed
from baraza.demo.sacco.day import Day
from baraza.storefront.sacco.dividends import PAID, RETURNED, lines_in
from chassis.values.money import shown

SHOWN_MAX = 20
CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOfSacco:
    """A run with all that judges it."""

    members: int
    loans: Counter[str]
    day: Day
    lanes_paused: int
    dividends: Mapping[str, Any]
    in_doubt: Sequence[Mapping[str, Any]]
    unallocated: Sequence[Mapping[str, Any]]
    closed: Sequence[Closed]
    report: Report
    took_s: float

    @property
    def is_good(self) -> bool:
        """Whether every day is closed, every row of the statement is matched, and the audit is green."""
        is_closed = all(each.state == CLOSED and each.rows == each.matched for each in self.closed)
        return is_closed and self.report.is_green

    def summary(self) -> dict[str, Any]:
        """Return the run as one JSON object."""
        withdrawals = self.day.states(self.day.withdrawals)
        return {
            "members": self.members,
            "receipts": len(self.day.receipts) + sum(_is_paid(each) for each in self.day.collections.values()),
            "withdrawals": withdrawals.total(),
            "paid": withdrawals["PAID"],
            "released": withdrawals["FAILED"] + withdrawals["CANCELLED"],
            "in_doubt": len(self.in_doubt),
            "unallocated": len(self.unallocated),
            "statement_rows": sum(each.rows for each in self.closed),
            "statement_matched": sum(each.matched for each in self.closed),
            "audit": "green" if self.report.is_green else "red",
            "members_data": "synthetic",
            "days": {each.day.isoformat(): each.state for each in self.closed},
            "loans": dict(self.loans),
            "collections": dict(self.day.states(self.day.collections)),
            "repayments_from_savings": dict(self.day.states(self.day.repayments)),
            "lanes_paused": self.lanes_paused,
            "dividend_run": {
                "state": self.dividends["state"],
                "lines": self.dividends["line_count"],
                "paid": lines_in(self.dividends, PAID),
                "returned": lines_in(self.dividends, RETURNED),
            },
            "refusals": dict(self.day.refusals.most_common()),
            "broken_invariants": [each.invariant.name for each in self.report.findings if each.total],
            "took_s": round(self.took_s, 1),
        }


def _is_paid(collection: Mapping[str, Any]) -> bool:
    return collection["receipt"] is not None


def write(result: DemoOfSacco, put: Callable[[str], None]) -> None:
    """Write the result for a person."""
    found = result.summary()
    put(f"{found['members']} synthetic members, {found['receipts']} receipts in {found['took_s']} s.")
    put(f"Loans: {_counts(result.loans)}. Prompts: {_counts(found['collections'])}.")
    put(
        f"Withdrawals: {found['withdrawals']}, of which {found['paid']} are paid and {found['released']} released; "
        f"a lane was paused {found['lanes_paused']} times."
    )
    run = found["dividend_run"]
    put(
        f"Dividends: {run['lines']} lines, run {run['state']}, {run['paid']} lines paid, "
        f"{run['returned']} returned to savings."
    )
    put(f"Refused at the door: {_counts(found['refusals'])}.")
    put(f"{found['unallocated']} receipts wait for a person: ./baraza money unallocated")
    for each in result.closed:
        reason = "" if each.reason is None else f": {each.reason}"
        put(f"{each.day}: {each.matched} of {each.rows} rows of the statements are matched; the day is "
            f"{each.state}{reason}.")  # fmt: skip
    put(f"In doubt: {len(result.in_doubt)}.")
    for doubt in result.in_doubt[:SHOWN_MAX]:
        amount = shown(doubt["amount_minor"], doubt["currency"])
        put(f"  {doubt['saga_id']}  {doubt['member_id']}  {amount}  {doubt['state']} since {doubt['since']}, next look "
            f"{doubt['next_look_at']}")  # fmt: skip


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.lower()}" for name, count in found.items()) or "none"
