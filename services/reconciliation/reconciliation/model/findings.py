"""What a run's divergences lead to: which are new, which changed, and which are gone. Pure.

A divergence is the same one in every run while it is about the same item and movement. What a person has explained
stays explained until its amounts or its kind change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chassis.values.money import shown
from chassis.wire.envelope import derived_id
from reconciliation.model.kinds import State

OPEN, RESOLVED, EXPLAINED = "OPEN", "RESOLVED", "EXPLAINED"
OPENED, CHANGED, CLOSED = "OPENED", "CHANGED", "CLOSED"
WORDS: Final = {"CAPTURE": "capture", "REFUND": "refund", "DISPUTE": "dispute", "PAYOUT": "payout", "OTHER": "line"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A line of a run that diverges."""

    item: str
    movement: str
    key: str
    state: str
    payment_id: int | None
    currency: str
    feed_currency: str | None
    ledger_minor: int | None
    gateway_minor: int | None
    feed_minor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """A divergence as it is stored."""

    divergence_id: str
    account: str
    item: str
    movement: str
    key: str
    kind: str
    payment_id: int | None
    detail: str
    state: str
    first_run: int
    last_run: int
    opened_at: datetime
    closed_at: datetime | None = None
    closed_by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a run changed about a divergence."""

    divergence_id: str
    change: str
    kind_before: str | None
    kind_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The divergences of a run as they are to be stored, and what changed."""

    divergences: Sequence[Divergence]
    changes: Sequence[Change]

    @property
    def open(self) -> Sequence[Divergence]:
        """Those that no person has explained."""
        return [each for each in self.divergences if each.state == OPEN]

    def count(self, change: str) -> int:
        """Return how many divergences changed in this way."""
        return sum(each.change == change for each in self.changes)


def identity_of(account: str, finding: Finding) -> str:
    """Return the id of a divergence, which is the same in every run."""
    return derived_id("divergence", account, finding.item, finding.movement, finding.key)


def detail_of(finding: Finding) -> str:
    """Return one sentence for a person."""
    what = WORDS.get(finding.movement, "line")
    subject = f"payment {finding.payment_id}" if finding.payment_id is not None else finding.item[2:]
    named = f"The {what}{f' {finding.key}' if finding.key else ''} of {subject}"
    ledger = _shown(finding.ledger_minor, finding.currency)
    gateway = _shown(finding.gateway_minor, finding.currency)
    feed = _shown(finding.feed_minor, finding.feed_currency or finding.currency)
    match State(finding.state):
        case State.MISSING_AT_GATEWAY:
            return f"{named} is in the ledger with {ledger}, and its gateway's feed has no line of it."
        case State.MISSING_IN_LEDGER:
            return f"{named} is at the gateway with {feed}, by its webhooks with {gateway}; the ledger has none."
        case State.DUPLICATE:
            return f"{named} is in the ledger once with {ledger}, and in the gateway's feed more than once: {feed}."
        case State.CURRENCY_MISMATCH:
            return f"{named} is {ledger} in the ledger and {feed} in the gateway's feed: another currency."
        case State.STATE_MISMATCH:
            return f"{named} is in another state: ledger {ledger}, webhooks {gateway}, feed {feed}."
        case _:
            return f"{named} has different amounts: ledger {ledger}, webhooks {gateway}, feed {feed}."


def _shown(amount_minor: int | None, currency: str) -> str:
    return "nothing" if amount_minor is None else shown(amount_minor, currency)


def judge(
    account: str,
    run: int,
    findings: Iterable[Finding],
    known: Mapping[str, Divergence],
    *,
    now: datetime,
) -> Judged:
    """Return what a run leads to. ``known`` are the divergences in its scope that are open, and those that it found."""
    divergences: list[Divergence] = []
    changes: list[Change] = []
    seen = set()
    for finding in findings:
        found = _found(account, run, finding, known.get(identity_of(account, finding)), now)
        seen.add(found.divergence_id)
        divergences.append(found)
        before = known.get(found.divergence_id)
        if (change := _change(before, found)) is not None:
            kind_before = before.kind if before is not None and before.state == OPEN else None
            changes.append(Change(divergence_id=found.divergence_id, change=change, kind_before=kind_before,
                                  kind_after=found.kind))  # fmt: skip
    for before in known.values():
        if before.state == OPEN and before.divergence_id not in seen:
            divergences.append(_resolved(before, run, now))
            changes.append(Change(divergence_id=before.divergence_id, change=CLOSED, kind_before=before.kind,
                                  kind_after=None))  # fmt: skip
    return Judged(divergences=divergences, changes=changes)


def _found(account: str, run: int, finding: Finding, before: Divergence | None, now: datetime) -> Divergence:
    detail = detail_of(finding)
    is_same = before is not None and before.kind == finding.state and before.detail == detail
    is_explained = is_same and before is not None and before.state == EXPLAINED
    goes_on = before is not None and before.state != RESOLVED
    return Divergence(
        divergence_id=identity_of(account, finding),
        account=account,
        item=finding.item,
        movement=finding.movement,
        key=finding.key,
        kind=finding.state,
        payment_id=finding.payment_id,
        detail=detail,
        state=EXPLAINED if is_explained else OPEN,
        first_run=before.first_run if before is not None else run,
        last_run=run,
        opened_at=before.opened_at if before is not None and goes_on else now,
        closed_at=before.closed_at if before is not None and is_explained else None,
        closed_by=before.closed_by if before is not None and is_explained else None,
        reason=before.reason if before is not None and is_explained else None,
    )


def _change(before: Divergence | None, after: Divergence) -> str | None:
    if after.state == EXPLAINED:
        return None
    if before is None or before.state == RESOLVED:
        return OPENED
    return CHANGED if (before.kind, before.detail) != (after.kind, after.detail) else None


def _resolved(before: Divergence, run: int, now: datetime) -> Divergence:
    return Divergence(
        divergence_id=before.divergence_id,
        account=before.account,
        item=before.item,
        movement=before.movement,
        key=before.key,
        kind=before.kind,
        payment_id=before.payment_id,
        detail=before.detail,
        state=RESOLVED,
        first_run=before.first_run,
        last_run=run,
        opened_at=before.opened_at,
        closed_at=now,
    )
