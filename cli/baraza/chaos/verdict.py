"""The verdict: every order, return and payment has ended, is parked with a reason or waits for an outcome.

Its outcome is queried for, nothing is lost and nothing doubled, or the verdict says what is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from baraza.audit.report import Report
from baraza.audit.sources import Row
from baraza.chaos.engine import RECOVERY_S_MAX, InjectedFault
from baraza.chaos.load import Load
from baraza.chaos.schedule import OUTAGES
from baraza.chaos.target import ChaosTarget
from baraza.chaos.waiting import Waiting, waiting_of
from baraza.terminal import Refusal
from saga_tracker.definitions import DEFINITIONS

DOUBLED = frozenset(
    {
        "captured-once",
        "charged-once",
        "shipped-once",
        "compensated-once",
        "ledger-balances",
        "reserved-for-orders",
        "refunded-within-captured",
        "returned-within-bought",
        "refunded-as-returned",
        "credited-as-returned",
        "restocked-as-arrived",
        "parcels-are-the-returns",
        "posted-as-returned",
        "payments-within-captured",
        "payments-are-entries",
        "payments-committed-once",
        "charged-as-booked",
        "sacco-receipts-booked",
        "sacco-rows-are-payouts",
        "sacco-paid-not-released",
    }
)
"""Invariants of the audit that find doubled effects."""
NAMED_MAX = 20
SERVICE_OF = {step.name: step.service for definition in DEFINITIONS.values() for step in definition.steps}
TIMED_OUT = """
    SELECT saga_id, timeline.step FROM timeline
    JOIN sagas USING (saga_id)
    WHERE timeline.type = 'TimedOut' AND recorded_at BETWEEN %s AND %s AND sagas.state <> 'CONFIRMED'
"""
NEVER_ATTEMPTED = """
    SELECT saga_id, step FROM effects WHERE state = 'FENCED' AND attempt = 0 AND saga_id = ANY(%s)
"""
REQUESTED = "SELECT payment_id::text, saga_id FROM payments"
"""Every payment that merchant has accepted, with the saga that makes it."""
OF_SACCO = ("receipt", "withdrawal", "collection")
"""The sagas of what a SACCO's members do."""
OPERATIONS = ("capture_later", "void_payment", "refund")
"""The sagas of what merchants request of payments."""
NO_SAGAS = "The tracker's table of sagas could not be read. See ./baraza status and the logs in the stack's home."


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The recovery times of the faults of one kind."""

    faults: int
    median_s: float | None
    longest_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The figures of a run and its violations; a run without violations is green."""

    submitted: int
    accepted: int
    cancellations: int
    returns: int
    return_cancellations: int
    states: dict[str, int]
    """The states of the orders, and below of the returns."""
    return_states: dict[str, int]
    payments: int
    payment_states: dict[str, int]
    requested: dict[str, int]
    """What merchants requested of payments and was accepted, and below what was not possible any more."""
    refused: dict[str, int]
    operation_states: dict[str, dict[str, int]]
    """The states of later captures, voids and refunds, by the saga's name."""
    sacco: dict[str, int]
    """What a SACCO's members requested and paid in, by its name, and below what was not possible."""
    sacco_refused: dict[str, int]
    sacco_states: dict[str, dict[str, int]]
    waiting: Sequence[Waiting]
    """The sagas that wait for an outcome which comes later, and whose provider is queried for it."""
    parked_by: dict[str, int]
    lost: int
    late: int
    """Sagas that were stopped in an outage or soon after it, at a step that was never attempted."""
    doubled: int
    poisons: int
    audit: str
    injected: Sequence[InjectedFault]
    violations: Sequence[str]

    def recoveries(self) -> dict[str, Recovery]:
        """Return the recovery times by kind of fault, in the order in which the kinds first came."""
        times: dict[str, list[float | None]] = defaultdict(list)
        for past in self.injected:
            times[past.fault.kind].append(past.recovery_s)
        return {kind: _recovery(each) for kind, each in times.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that --json prints."""
        return {
            "orders": self.accepted,
            "submitted": self.submitted,
            "cancellations": self.cancellations,
            "states": self.states,
            "returns": self.returns,
            "return_cancellations": self.return_cancellations,
            "return_states": self.return_states,
            "payments": self.payments,
            "payment_states": self.payment_states,
            "payment_requests": self.requested,
            "payment_requests_refused": self.refused,
            "operation_states": self.operation_states,
            "sacco": self.sacco,
            "sacco_refused": self.sacco_refused,
            "sacco_states": self.sacco_states,
            "waiting": [each.to_json() for each in self.waiting],
            "parked_by": self.parked_by,
            "lost": self.lost,
            "lost_to_outages": self.late,
            "doubled": self.doubled,
            "poisons": self.poisons,
            "audit": self.audit,
            "faults": {kind: recovery.faults for kind, recovery in self.recoveries().items()},
            "recovery_s": {
                kind: {"median": recovery.median_s, "longest": recovery.longest_s}
                for kind, recovery in self.recoveries().items()
            },
            "recoveries": [_shown(past) for past in self.injected],
            "violations": list(self.violations),
        }


def _shown(past: InjectedFault) -> dict[str, Any]:
    return {
        "number": past.fault.number,
        "kind": past.fault.kind,
        "what": past.what,
        "after_s": round(past.after_s, 1),
        "recovery_s": past.recovery_s,
    }


def judge(
    target: ChaosTarget, load: Load, injected: Sequence[InjectedFault], report: Report, divergences: Sequence[str] = ()
) -> Verdict:
    """Return the verdict over a run in which nothing moves any more. Raises Refusal.

    ``divergences`` are what the reconciliation with the gateways' own books has found.
    """
    found = target.query("SELECT saga_id, saga_type, state FROM sagas")
    if (load.accepted or load.returns.accepted) and not found:
        raise Refusal(NO_SAGAS)
    known = {saga_id for saga_id, _, _ in found}
    payments, accepted, sacco = load.payments, {} if load.payments is None else load.payments.accepted, load.sacco
    lost = _all_lost(target, load, known)
    late = sorted(_late(target, injected).items())
    waiting, now = waiting_of(target), datetime.now(UTC)
    violations = [
        *lost[:NAMED_MAX],
        *(f"saga {saga_id} was merely late: {step} was never attempted" for saga_id, step in late[:NAMED_MAX]),
        *(f"saga {each.saga_id} {each.what}" for each in waiting if each.is_stuck(now)),
        *_found(report),
        *divergences,
        *_seen(target, load),
        *_unrecovered(injected),
    ]
    return Verdict(
        submitted=load.intake.total, accepted=len(load.accepted), cancellations=load.cancellations,
        returns=len(load.returns.accepted), return_cancellations=load.returns.cancellations,
        states=_states(found, "order"), return_states=_states(found, "return_order"),
        payments=len(accepted), payment_states=_states(found, "payment"),
        requested={} if payments is None else dict(payments.requested),
        refused={} if payments is None else dict(payments.refused),
        operation_states={name: _states(found, name) for name in OPERATIONS},
        sacco={} if sacco is None else sacco.counts(),
        sacco_refused={} if sacco is None else dict(sacco.refused),
        sacco_states={} if sacco is None else {name: _states(found, name) for name in OF_SACCO},
        waiting=[each for each in waiting if not each.is_stuck(now)],
        parked_by=_parked_by(target), lost=len(lost), late=len(late), doubled=_doubled(report),
        poisons=len(target.messages.poisons), audit="green" if report.is_green else "red", injected=injected,
        violations=violations,
    )  # fmt: skip


def _seen(target: ChaosTarget, load: Load) -> Iterator[str]:
    """Yield what was found to be wrong while the load ran."""
    yield from () if load.payments is None else load.payments.violations
    yield from () if load.sacco is None else load.sacco.violations
    yield from target.messages.unreported()
    yield from target.violations


def _all_lost(target: ChaosTarget, load: Load, known: Set[str]) -> list[str]:
    """Return a sentence for everything that was accepted and that the tracker does not know."""
    lost = [*_lost("order", load.accepted, known), *_lost("return", load.returns.accepted, known)]
    if load.payments is not None:
        lost += _lost_payments(target, load.payments.accepted, known)
    if load.sacco is not None:
        for what, saga_id in sorted(load.sacco.accepted.values()):
            lost += _lost(what, {what: saga_id}, known)
    return lost


def _doubled(report: Report) -> int:
    return sum(finding.total for finding in report.findings if finding.invariant.name in DOUBLED)


def _lost(what: str, accepted: Mapping[str, str], known: Set[str]) -> Iterator[str]:
    for saga_id in sorted(accepted.values()):
        if saga_id not in known:
            yield f"{what} {saga_id} was accepted and is unknown to the tracker"


def _lost_payments(target: ChaosTarget, accepted: Mapping[str, str], known: Set[str]) -> list[str]:
    if not accepted:
        return []
    made = {payment_id for payment_id, saga_id in target.query(REQUESTED, service="merchant") if saga_id in known}
    return [
        f"payment {payment_id} was accepted and is unknown to the tracker"
        for payment_id in sorted(accepted.values())
        if payment_id not in made
    ]


def _states(sagas: Sequence[Row], saga_type: str) -> dict[str, int]:
    return dict(Counter(state for _, its_type, state in sagas if its_type == saga_type))


def _late(target: ChaosTarget, injected: Sequence[InjectedFault]) -> dict[str, str]:
    """Return the sagas, each with its step, that timed out in an outage or soon after it without an attempt."""
    timed_out: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for outage in (past for past in injected if past.fault.kind in OUTAGES):
        until = outage.ended_at + timedelta(seconds=RECOVERY_S_MAX)
        for saga_id, step in target.query(TIMED_OUT, outage.began_at, until):
            timed_out[SERVICE_OF[step]][saga_id] = step
    return {
        saga_id: step
        for service, steps in timed_out.items()
        for saga_id, step in target.query(NEVER_ATTEMPTED, list(steps), service=service)
        if steps[saga_id] == step
    }


def _found(report: Report) -> Iterator[str]:
    for finding in report.findings:
        for offender, problem in finding.offenders:
            yield f"{finding.invariant.name}: {offender} {problem}"


def _unrecovered(injected: Sequence[InjectedFault]) -> Iterator[str]:
    for past in injected:
        if past.recovery_s is None or past.recovery_s > RECOVERY_S_MAX:
            took = "not at all" if past.recovery_s is None else f"only after {past.recovery_s} s"
            yield f"fault {past.fault.number} ({past.what}): new orders were confirmed again {took}"


def _parked_by(target: ChaosTarget) -> dict[str, int]:
    rows = target.query("SELECT cause, count(*) FROM sagas WHERE state = 'NEEDS_REVIEW' GROUP BY cause ORDER BY 2 DESC")
    return {str(cause): count for cause, count in rows}


def _recovery(times: Sequence[float | None]) -> Recovery:
    known = [time for time in times if time is not None]
    return Recovery(
        faults=len(times),
        median_s=round(median(known), 1) if known else None,
        longest_s=max(known, default=None),
    )
