"""What may become known of a saga, and how it adds up. Pure: no I/O, no clock, no chance.

Knowledge only grows. Each recorded message or act is a fact, and :func:`merge` adds it to what is known. Merging is
commutative, associative and idempotent (sets unite, counts and reasons take their maximum, cancellations their first),
so what is known is a function of the set of the facts and never of their order: topics overtake one another.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

ANY_STEP = ""
"""Stands for the step where nobody can tell which one a message was about."""


class StepState(enum.StrEnum):
    """What a service's answer to a fence says of one of its steps."""

    DONE = "DONE"
    REJECTED = "REJECTED"
    FENCED = "FENCED"
    UNDONE = "UNDONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The starting event was recorded; it happened at ``at``."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """A step ran."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A step's service said no."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensated:
    """The reply to a step's compensation came."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """A service answered the fence, with the state of each of its steps."""

    service: str
    states: tuple[tuple[str, StepState], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesExhausted:
    """A step's trigger went to its dead-letter topic."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDead:
    """A command of the tracker went to a dead-letter topic. ``command`` is its key."""

    command: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A message could not be decoded or was not expected. ``step`` is whose it was, ANY_STEP where nobody can tell."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """The deadline of a step passed."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOverdue:
    """Nobody answered the given attempt of a command in time. ``round_`` is one fence or one compensation."""

    round_: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """A customer or a member of staff asked to cancel, and it was accepted."""

    at: datetime
    by: str
    reason: str


Timer: TypeAlias = TimedOut | ReplyOverdue
Fact: TypeAlias = (
    Started
    | Succeeded
    | Rejected
    | Compensated
    | Fenced
    | RetriesExhausted
    | CommandDead
    | Unreadable
    | TimedOut
    | ReplyOverdue
    | Cancelled
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Everything known of one saga. Mappings go from a step or a command to a reason, or to a count."""

    started_at: datetime | None = None
    ran: frozenset[str] = frozenset()
    never_ran: frozenset[str] = frozenset()
    rejected: Mapping[str, str] = field(default_factory=dict)
    compensated: frozenset[str] = frozenset()
    fenced_services: frozenset[str] = frozenset()
    exhausted: Mapping[str, str] = field(default_factory=dict)
    dead_commands: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    timed_out: frozenset[str] = frozenset()
    overdue: Mapping[str, int] = field(default_factory=dict)
    cancelled: tuple[datetime, str, str] | None = None


NOTHING = Progress()


def merge(progress: Progress, fact: Fact) -> Progress:
    """Return what is known with one more fact; a fact that is known already changes nothing."""
    match fact:
        case Started(at=at):
            first = at if progress.started_at is None else min(at, progress.started_at)
            return replace(progress, started_at=first)
        case Succeeded(step=step):
            return replace(progress, ran=progress.ran | {step})
        case Rejected(step=step, reason=reason):
            return replace(progress, rejected=_with_reason(progress.rejected, step, reason))
        case Compensated(step=step):
            return replace(progress, compensated=progress.compensated | {step})
        case Fenced():
            return _merge_fenced(progress, fact)
        case RetriesExhausted(step=step, reason=reason):
            return replace(progress, exhausted=_with_reason(progress.exhausted, step, reason))
        case CommandDead(command=command, reason=reason):
            return replace(progress, dead_commands=_with_reason(progress.dead_commands, command, reason))
        case Unreadable(step=step, reason=reason):
            return replace(progress, unreadable=_with_reason(progress.unreadable, step, reason))
        case TimedOut(step=step):
            return replace(progress, timed_out=progress.timed_out | {step})
        case ReplyOverdue(round_=round_, attempt=attempt):
            latest = max(attempt, progress.overdue.get(round_, 0))
            return replace(progress, overdue={**progress.overdue, round_: latest})
        case Cancelled(at=at, by=by, reason=reason):
            act = (at, by, reason)
            return replace(progress, cancelled=act if progress.cancelled is None else min(act, progress.cancelled))


def merge_all(progress: Progress, facts: Iterable[Fact]) -> Progress:
    """Return what is known with all of these facts."""
    for fact in facts:
        progress = merge(progress, fact)
    return progress


def _with_reason(reasons: Mapping[str, str], key: str, reason: str) -> Mapping[str, str]:
    return {**reasons, key: max(reason, reasons.get(key, ""))}


def _merge_fenced(progress: Progress, fact: Fenced) -> Progress:
    ran, never_ran, rejected = set(progress.ran), set(progress.never_ran), progress.rejected
    for step, state in fact.states:
        match state:
            case StepState.DONE | StepState.UNDONE:
                ran.add(step)
            case StepState.FENCED:
                never_ran.add(step)
            case StepState.REJECTED:
                rejected = _with_reason(rejected, step, "")
    return replace(
        progress,
        ran=frozenset(ran),
        never_ran=frozenset(never_ran),
        rejected=rejected,
        fenced_services=progress.fenced_services | {fact.service},
    )


_REASONS = ("rejected", "exhausted", "dead_commands", "unreadable")
_SETS = ("ran", "never_ran", "compensated", "fenced_services", "timed_out")


def to_record(progress: Progress) -> dict[str, object]:
    """Return what is known as JSON can hold it, without what is empty."""
    record: dict[str, object] = {}
    for name in _SETS:
        if members := getattr(progress, name):
            record[name] = sorted(members)
    for name in (*_REASONS, "overdue"):
        if mapping := getattr(progress, name):
            record[name] = mapping
    if progress.started_at is not None:
        record["started_at"] = progress.started_at.isoformat()
    if progress.cancelled is not None:
        at, by, reason = progress.cancelled
        record["cancelled"] = [at.isoformat(), by, reason]
    return record


def from_record(record: Mapping[str, Any]) -> Progress:
    """Return what :func:`to_record` was given."""
    known: dict[str, Any] = {name: frozenset(record[name]) for name in _SETS if name in record}
    known |= {name: record[name] for name in (*_REASONS, "overdue") if name in record}
    if "started_at" in record:
        known["started_at"] = datetime.fromisoformat(record["started_at"])
    if "cancelled" in record:
        at, by, reason = record["cancelled"]
        known["cancelled"] = (datetime.fromisoformat(at), by, reason)
    return Progress(**known)
