"""What the tracker itself decides, as messages: deadlines that passed, cancellations, acts of operators. Pure.

Everything else that a saga's state follows from is on Kafka anyway. A decision is published before the saga sends
anything because of it: it is recorded and marked as pending in one transaction, and the saga sends nothing until the
decision is read back. So the topics have every fact, and a tracker that is rebuilt from them comes to the same states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from chassis.wire.envelope import derived_id
from messages.contract import Envelope
from messages.saga import CancellationDecided, DeadlinePassed, OperatorActed, ServiceRedrive
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.model.contradictions import Settled
from saga_tracker.model.decision import key_of
from saga_tracker.model.facts import Cancelled, EvidenceOverdue, Fact, Redriven, ReplyOverdue, Resolved, TimedOut, Timer
from saga_tracker.model.saga import SERVICE
from saga_tracker.store.operator_log import LogEntry
from saga_tracker.store.plans import ActKind
from saga_tracker.store.timeline import Entry

OwnDecision: TypeAlias = DeadlinePassed | CancellationDecided | OperatorActed
OWN_DECISIONS = (DeadlinePassed, CancellationDecided, OperatorActed)

ACT_TYPES: Mapping[ActKind, str] = {
    ActKind.REDRIVE: "Redrive",
    ActKind.COMPENSATE: "Compensate",
    ActKind.ANNOTATE: "Annotate",
    ActKind.SETTLE: "Settle",
    ActKind.RESOLVE_COMPENSATED: "Resolve",
    ActKind.RESOLVE_CONFIRMED: "Resolve",
}
"""The type of an act's timeline entry."""
LOST_REASON = "the time and the reason of the proposal are not on Kafka"


class InvalidDecision(ValueError):
    """A message on the tracker's own topic is no decision that it makes. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedAct:
    """What an operator did to one saga. ``redrives`` are the numbers of the redrives of unknown steps, by service."""

    kind: ActKind
    plan_id: str
    actor: str
    reason: str
    runs: str | None
    fact: Fact | None
    redrives: Mapping[str, int]
    proposed_by: str | None = None


def deadline_passed(saga: TrackedSaga, timer: Timer, *, deadline_at: datetime, now: datetime) -> DeadlinePassed:
    """Return the decision that a deadline passed."""
    awaited = timer.round_ if isinstance(timer, ReplyOverdue) else timer.step
    return DeadlinePassed(
        **_envelope(saga, _timer_id(saga.row.saga_id, timer), None, now),
        timer=type(timer).__name__,
        awaited=awaited,
        step=awaited if any(step.name == awaited for step in saga.definition.steps) else None,
        attempt=timer.attempt if isinstance(timer, ReplyOverdue) else 0,
        deadline_at=deadline_at,
    )


def cancellation_decided(
    saga: TrackedSaga, request: Cancelled, request_id: str, *, is_accepted: bool, now: datetime
) -> CancellationDecided:
    """Return the decision about a request to cancel the saga."""
    return CancellationDecided(
        **_envelope(saga, _cancellation_id(saga.row.saga_id, request_id, is_accepted), request_id, now),
        request_id=request_id,
        accepted=is_accepted,
        actor=request.by,
        reason=request.reason,
        requested_at=request.at,
    )


def operator_acted(saga: TrackedSaga, act: AppliedAct, *, now: datetime) -> OperatorActed:
    """Return the decision that an act is applied to the saga."""
    redriven = act.fact if isinstance(act.fact, Redriven) else None
    return OperatorActed(
        **_envelope(saga, _act_id(saga.row.saga_id, act.plan_id), None, now),
        act=act.kind.value,
        actor=act.actor,
        reason=act.reason,
        step=saga.row.step,
        plan_id=act.plan_id,
        proposed_by=act.proposed_by,
        runs=act.runs,
        round=None if redriven is None else redriven.round_,
        number=0 if redriven is None else redriven.number,
        letters=() if redriven is None else tuple(sorted(redriven.letters)),
        contradictions=tuple(sorted(act.fact.contradictions)) if isinstance(act.fact, Settled) else (),
        redrives=tuple(ServiceRedrive(service=service, number=number) for service, number in act.redrives.items()),
    )


def fact_of(message: OwnDecision) -> Fact | None:
    """Return the fact of a decision; None where it changes nothing that is known. Raises InvalidDecision."""
    match message:
        case DeadlinePassed():
            return _timer_of(message)
        case CancellationDecided():
            cancelled = Cancelled(at=message.requested_at, by=message.actor, reason=message.reason)
            return cancelled if message.accepted else None
        case OperatorActed() if message.act == ActKind.COMPENSATE:
            return Cancelled(at=message.occurred_at, by=message.actor, reason=message.reason)
        case OperatorActed() if message.act == ActKind.REDRIVE:
            return _redriven(message)
        case OperatorActed() if message.act == ActKind.ANNOTATE:
            return None
        case OperatorActed() if message.act == ActKind.SETTLE:
            keys, by = frozenset(message.contradictions), message.actor
            return Settled(contradictions=keys, at=message.occurred_at, by=by, reason=message.reason)
        case OperatorActed() if message.proposed_by is not None and message.act in set(ActKind):
            return _resolved(message, message.proposed_by)
    raise InvalidDecision(f"{message.act!r} is no act of this release.")


def check_id(message: OwnDecision) -> None:
    """Raise InvalidDecision unless the message has the id that the tracker gives to this decision.

    A message that anyone else put on the topic must not look like a decision that the database lacks.
    """
    match message:
        case DeadlinePassed():
            own_id = _timer_id(message.saga_id, _timer_of(message))
        case CancellationDecided():
            own_id = _cancellation_id(message.saga_id, message.request_id, message.accepted)
        case OperatorActed():
            own_id = _act_id(message.saga_id, message.plan_id)
    if message.message_id != own_id:
        raise InvalidDecision(f"The tracker gives this decision the id {own_id}, so it did not make this one.")


def entry_of(message: OwnDecision, partition: int) -> Entry | None:
    """Return a decision's timeline entry; None for a cancellation, whose request has one. Raises InvalidDecision."""
    if isinstance(message, CancellationDecided):
        return None
    entry = Entry(
        saga_id=message.saga_id,
        message_id=message.message_id,
        occurred_at=message.occurred_at,
        kind="act",
        type="",
        service=SERVICE,
        step=message.step,
        partition=partition,
    )
    if isinstance(message, OperatorActed):
        return replace(entry, type=_type_of(message), detail=f"{message.actor}: {message.reason}")
    timer = _timer_of(message)
    return replace(
        entry,
        kind="timer",
        type=message.timer,
        occurred_at=message.deadline_at,
        deadline_at=message.deadline_at,
        attempt=timer.attempt if isinstance(timer, ReplyOverdue) else None,
        detail=f"{key_of(timer)}: nothing came in time",
    )


def log_entries_of(message: OperatorActed) -> list[LogEntry]:
    """Return an act's entries in the operators' log: of a resolution also its proposal, which is there already.

    A rebuilt database has no proposal of its own, and gets this one.
    """
    entry = LogEntry(
        act_id=message.message_id,
        at=message.occurred_at,
        actor=message.actor,
        act=message.act,
        reason=message.reason,
        saga_id=message.saga_id,
        plan_id=message.plan_id,
        detail=message.runs,
    )
    if message.proposed_by is None:
        return [entry]
    act_id = derived_id("propose", message.plan_id)
    proposal = replace(
        entry, act_id=act_id, actor=message.proposed_by, act="PROPOSE", reason=LOST_REASON, detail=message.act
    )
    return [proposal, entry]


def entry_id_of(message: OwnDecision) -> str:
    """Return the id of the timeline entry that the database has if it made this decision."""
    return message.request_id if isinstance(message, CancellationDecided) else message.message_id


def _timer_id(saga_id: str, timer: Timer) -> str:
    return derived_id(saga_id, "timer", key_of(timer))


def _cancellation_id(saga_id: str, request_id: str, is_accepted: bool) -> str:
    return derived_id(saga_id, "cancellation", request_id, is_accepted)


def _act_id(saga_id: str, plan_id: str) -> str:
    return derived_id(plan_id, saga_id)


def _timer_of(message: DeadlinePassed) -> Timer:
    if message.timer == TimedOut.__name__:
        return TimedOut(step=message.awaited)
    if message.timer == EvidenceOverdue.__name__:
        return EvidenceOverdue(step=message.awaited)
    if message.timer == ReplyOverdue.__name__:
        return ReplyOverdue(round_=message.awaited, attempt=message.attempt)
    raise InvalidDecision(f"{message.timer!r} is no timer of this release.")


def _type_of(message: OperatorActed) -> str:
    if message.act not in set(ActKind):
        raise InvalidDecision(f"{message.act!r} is no act of this release.")
    return ACT_TYPES[ActKind(message.act)]


def _redriven(message: OperatorActed) -> Redriven | None:
    if message.round is None:
        return None  # Only a service's parked messages of no known step are redriven.
    return Redriven(
        round_=message.round,
        number=message.number,
        at=message.occurred_at,
        by=message.actor,
        reason=message.reason,
        letters=frozenset(message.letters),
    )


def _resolved(message: OperatorActed, proposed_by: str) -> Resolved:
    resolution = ActKind(message.act).resolution
    if resolution is None:
        raise InvalidDecision(f"{message.act} needs no proposal, but names {proposed_by} as having proposed it.")
    return Resolved(
        at=message.occurred_at,
        resolution=resolution,
        by=message.actor,
        proposed_by=proposed_by,
        reason=message.reason,
    )


def _envelope(saga: TrackedSaga, message_id: str, causation_id: str | None, now: datetime) -> Envelope:
    row = saga.row
    return Envelope(
        message_id=message_id,
        saga_id=row.saga_id,
        saga_type=row.saga_type,
        saga_version=row.saga_version,
        causation_id=causation_id,
        occurred_at=now,
    )
