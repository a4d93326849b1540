"""The facts about a saga, and how they merge. Pure: no I/O, no clock, no randomness.

Knowledge only grows. Each recorded message or act is a fact, and :func:`merge` adds it to what is known. Merging is
commutative, associative and idempotent: sets unite, counts and reasons take their maximum, of cancellations the first
counts. So what is known is a function of the set of the facts and never of their order: topics overtake one another.

A redrive takes nothing back. It is a fact with a number, and what failed before it is history: a dead letter of a lower
generation, earlier attempts at a command, and the unprocessable messages that the operator had seen.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias

from saga_tracker.model.contradictions import Act, Contradicted, Settled, merge_acts, merge_open

KEPT_MAX = 1_024
"""How many results of a pure function are cached. Sagas without a failure share some twenty of them."""
UNKNOWN_STEP = ""
"""Stands for the step where it is unknown which one a message concerns."""


class StepState(enum.StrEnum):
    """The state of a step in its service's reply to a fence."""

    DONE = "DONE"
    REJECTED = "REJECTED"
    FENCED = "FENCED"
    UNDONE = "UNDONE"
    IN_DOUBT = "IN_DOUBT"
    """Its outcome comes later. The service replies once more when it is settled."""


class RedriveOutcome(enum.StrEnum):
    """A service's reply to the redrive of a step; the first two are no state of its effect."""

    NOTHING_PARKED = "NOTHING_HELD"
    RESUMED = "RESUMED"
    DONE = "DONE"
    REJECTED = "REJECTED"
    FENCED = "FENCED"
    UNDONE = "UNDONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The starting event happened, at ``at``."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """A step ran."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A step was rejected by its service."""

    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensated:
    """A step was compensated, by the reply of its service."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """A service replied to the fence, with the state of each of its steps."""

    service: str
    states: tuple[tuple[str, StepState], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """An attempt at a step, or at its ``undo``, was begun whose outcome comes later."""

    step: str
    attempt: int
    undo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesExhausted:
    """The retries of a step's trigger are exhausted, after ``redrive`` redrives; the trigger was dead-lettered."""

    step: str
    reason: str
    redrive: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDead:
    """An attempt at a command of the tracker was dead-lettered. ``command`` is its key."""

    command: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprocessable:
    """A message could not be decoded or was not expected, after ``redrive`` redrives.

    ``step`` is the step that it concerns. Where that is UNKNOWN_STEP, ``letter`` identifies the message.
    """

    step: str
    reason: str
    redrive: int = 0
    letter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """The deadline of a step passed."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceOverdue:
    """The time passed that a step's evidence may take. It settles nothing: the saga is fenced."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOverdue:
    """No reply to an attempt at a command came in time. ``round_`` is one fence, compensation or redrive."""

    round_: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """An operator redrove a parked saga: the ``number``-th redrive of a round, from 1.

    ``letters`` are the unprocessable messages of an unknown step that are history from now on.
    """

    round_: str
    number: int
    at: datetime
    by: str
    reason: str
    letters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRedriven:
    """A service replied to the ``number``-th redrive of a step."""

    step: str
    number: int
    outcome: RedriveOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """A customer or a member of staff cancelled the saga, and the cancellation was accepted."""

    at: datetime
    by: str
    reason: str


class Resolution(enum.StrEnum):
    """What two operators found to be true of a saga whose facts contradict one another."""

    COMPENSATED = "COMPENSATED"
    """It is fenced, and every step is compensated, whatever is known of it."""
    CONFIRMED = "CONFIRMED"
    """Every step ran; it is completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """One operator proposed how to end a saga whose facts contradict one another, and another approved it, ``by``."""

    at: datetime
    resolution: Resolution
    by: str
    proposed_by: str
    reason: str


Timer: TypeAlias = TimedOut | EvidenceOverdue | ReplyOverdue
_MergedFact: TypeAlias = (
    Succeeded
    | Rejected
    | Compensated
    | Fenced
    | Awaited
    | Contradicted
    | Settled
    | EvidenceOverdue
    | RetriesExhausted
    | CommandDead
    | Unprocessable
    | TimedOut
    | ReplyOverdue
    | Cancelled
    | Redriven
    | StepRedriven
    | Resolved
)
Fact: TypeAlias = Started | _MergedFact


Failed: TypeAlias = tuple[int, str]
"""A dead letter's generation (of a command: its attempt), and the reason. The latest counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Everything that is known of one saga.

    Mappings go from a step or a command to a reason, to a count, or to a generation or attempt with its reason.
    ``letters`` maps each unprocessable message of an unknown step to its reason. ``contradicted`` has the steps
    that a service published as contradicted while the saga goes on; once it has ended, ``marks`` has all of them.
    ``to_settle`` maps each contradiction that no service undoes to its time, ``settled`` to the act that settled it.
    """

    ran: frozenset[str] = frozenset()
    never_ran: frozenset[str] = frozenset()
    rejected: Mapping[str, str] = field(default_factory=dict)
    compensated: frozenset[str] = frozenset()
    fenced_services: frozenset[str] = frozenset()
    exhausted: Mapping[str, Failed] = field(default_factory=dict)
    dead_commands: Mapping[str, Failed] = field(default_factory=dict)
    unprocessable: Mapping[str, Failed] = field(default_factory=dict)
    letters: Mapping[str, str] = field(default_factory=dict)
    letters_redriven: frozenset[str] = frozenset()
    timed_out: frozenset[str] = frozenset()
    awaited: frozenset[str] = frozenset()
    undo_awaited: frozenset[str] = frozenset()
    in_doubt: frozenset[str] = frozenset()
    contradicted: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    to_settle: Mapping[str, datetime] = field(default_factory=dict)
    settled: Mapping[str, Act] = field(default_factory=dict)
    overdue: Mapping[str, int] = field(default_factory=dict)
    redrives: Mapping[str, int] = field(default_factory=dict)
    redriven: Mapping[str, tuple[int, RedriveOutcome]] = field(default_factory=dict)
    redriven_by: tuple[datetime, str, str] | None = None
    cancelled: tuple[datetime, str, str] | None = None
    resolved: Resolved | None = None

    def __hash__(self) -> int:
        """Hash the sets alone; the generated method would fail at the mappings."""
        return hash((self.ran, self.never_ran, self.compensated, self.fenced_services, self.timed_out))

    @property
    def open_doubt(self) -> frozenset[str]:
        """The steps that a service reported as in doubt and of which no settled state is known, in any order."""
        return self.in_doubt - self.ran - self.never_ran - self.rejected.keys()

    @property
    def unsettled(self) -> frozenset[str]:
        """The contradictions that are open: no service undoes them, and no operator has settled them."""
        return frozenset(self.to_settle.keys() - self.settled.keys())

    def is_under_way(self, step: str) -> bool:
        """Return whether a step was begun whose outcome comes later, settled or not: every step before it ran."""
        return step in self.awaited or step in self.in_doubt

    @property
    def unresolved_letters(self) -> Mapping[str, str]:
        """The unprocessable messages of an unknown step that no redrive has made history."""
        return {letter: reason for letter, reason in self.letters.items() if letter not in self.letters_redriven}

    def is_history(self, failed: Failed | None, round_: str) -> bool:
        """Return whether a step's dead letter came before its latest redrive. Without a dead letter it did."""
        return failed is None or failed[0] < self.redrives.get(round_, 0)


NOTHING = Progress()


def merge(progress: Progress, fact: Fact) -> Progress:
    """Return what is known with one more fact; a fact that is known already changes nothing."""
    if isinstance(fact, Started):
        return progress  # A saga that is known has started.
    return _merged(progress, fact)


@lru_cache(KEPT_MAX)
def _merged(progress: Progress, fact: _MergedFact) -> Progress:
    match fact:
        case Succeeded(step=step):
            return replace(progress, ran=progress.ran | {step})
        case Rejected(step=step, reason=reason):
            return replace(progress, rejected=_with_reason(progress.rejected, step, reason))
        case Compensated(step=step):
            return replace(progress, compensated=progress.compensated | {step})
        case Fenced():
            return _merge_fenced(progress, fact)
        case RetriesExhausted(step=step, reason=reason, redrive=number):
            return replace(progress, exhausted=_with_latest(progress.exhausted, step, (number, reason)))
        case CommandDead(command=command, reason=reason, attempt=attempt):
            return replace(progress, dead_commands=_with_latest(progress.dead_commands, command, (attempt, reason)))
        case Unprocessable(step=step, reason=reason, letter=letter) if step == UNKNOWN_STEP:
            return replace(progress, letters=_with_reason(progress.letters, letter, reason))
        case Unprocessable(step=step, reason=reason, redrive=number):
            return replace(progress, unprocessable=_with_latest(progress.unprocessable, step, (number, reason)))
        case Awaited(step=step, undo=True):
            return replace(progress, undo_awaited=progress.undo_awaited | {step})
        case Awaited(step=step):
            return replace(progress, awaited=progress.awaited | {step})
        case Contradicted() | Settled():
            return _merge_contradiction(progress, fact)
        case TimedOut(step=step) | EvidenceOverdue(step=step):
            return replace(progress, timed_out=progress.timed_out | {step})
        case ReplyOverdue(round_=round_, attempt=attempt):
            latest = max(attempt, progress.overdue.get(round_, 0))
            return replace(progress, overdue={**progress.overdue, round_: latest})
        case Redriven():
            return _merge_redriven(progress, fact)
        case StepRedriven(step=step, number=number, outcome=outcome):
            return _merge_step_redriven(progress, step, (number, outcome))
        case Cancelled(at=at, by=by, reason=reason):
            act = (at, by, reason)
            return replace(progress, cancelled=act if progress.cancelled is None else min(act, progress.cancelled))
        case Resolved():
            return replace(progress, resolved=min(fact, progress.resolved or fact, key=as_tuple))


def merge_all(progress: Progress, facts: Iterable[Fact]) -> Progress:
    """Return what is known with all of these facts."""
    for fact in facts:
        progress = merge(progress, fact)
    return progress


def as_tuple(resolved: Resolved) -> tuple[datetime, str, str, str, str]:
    """Return a resolution as a tuple that can be compared and stored."""
    return resolved.at, resolved.resolution.value, resolved.by, resolved.proposed_by, resolved.reason


def _with_reason(reasons: Mapping[str, str], key: str, reason: str) -> Mapping[str, str]:
    return {**reasons, key: max(reason, reasons.get(key, ""))}


def _with_latest(failed: Mapping[str, Failed], key: str, one: Failed) -> Mapping[str, Failed]:
    return {**failed, key: max(one, failed.get(key, one))}


def _merge_fenced(progress: Progress, fact: Fenced) -> Progress:
    for step, state in fact.states:
        progress = _merge_state(progress, step, state)
    return replace(progress, fenced_services=progress.fenced_services | {fact.service})


def _merge_state(progress: Progress, step: str, state: StepState) -> Progress:
    match state:
        case StepState.DONE | StepState.UNDONE:
            return replace(progress, ran=progress.ran | {step})
        case StepState.FENCED:
            return replace(progress, never_ran=progress.never_ran | {step})
        case StepState.REJECTED:
            return replace(progress, rejected=_with_reason(progress.rejected, step, ""))
        case StepState.IN_DOUBT:
            return replace(progress, in_doubt=progress.in_doubt | {step})


def _merge_contradiction(progress: Progress, fact: Contradicted | Settled) -> Progress:
    if isinstance(fact, Settled):
        return replace(progress, settled=merge_acts(progress.settled, fact))
    progress = replace(progress, to_settle=merge_open(progress.to_settle, fact))
    if fact.is_mark:
        return replace(progress, marks=_with_reason(progress.marks, fact.step, fact.reason))
    return replace(progress, contradicted=_with_reason(progress.contradicted, fact.step, fact.reason))


def _merge_redriven(progress: Progress, fact: Redriven) -> Progress:
    latest = max(fact.number, progress.redrives.get(fact.round_, 0))
    act = (fact.at, fact.by, fact.reason)
    return replace(
        progress,
        redrives={**progress.redrives, fact.round_: latest},
        redriven_by=max(act, progress.redriven_by or act),
        letters_redriven=progress.letters_redriven | fact.letters,
    )


def _merge_step_redriven(progress: Progress, step: str, reply: tuple[int, RedriveOutcome]) -> Progress:
    """Merge a reply to a redrive. A later reply may be more final; of two replies the more final one counts."""

    def rank(each: tuple[int, RedriveOutcome]) -> tuple[int, int]:
        return each[0], _OUTCOMES.index(each[1])

    latest = max(reply, progress.redriven.get(step, reply), key=rank)
    progress = replace(progress, redriven={**progress.redriven, step: latest})
    _, outcome = reply
    if step == UNKNOWN_STEP or outcome in (RedriveOutcome.RESUMED, RedriveOutcome.NOTHING_PARKED):
        return progress
    return _merge_state(progress, step, StepState(outcome.value))


_OUTCOMES = tuple(RedriveOutcome)
