"""What a decision about a saga is made of: its state, what it waits for, and the commands that it requires. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from saga_tracker.model.facts import EvidenceOverdue, ReplyOverdue, TimedOut, Timer

FENCE = "fence"
"""The round of commands that fences a saga. Other rounds are named after the step that they compensate or redrive."""
REDRIVE = "redrive"


class SagaState(enum.StrEnum):
    """A saga's state as the API shows it."""

    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    CANCELLED_COMPENSATED = "CANCELLED_COMPENSATED"
    NEEDS_REVIEW = "NEEDS_REVIEW"
    IN_DOUBT = "IN_DOUBT"
    """It is stopped, and the outcome of a step or of its undo comes later. It is neither failed nor parked."""
    INCIDENT = "INCIDENT"
    """A provider contradicted itself about a step that nothing undoes. It is frozen, and people settle it."""


class Phase(enum.StrEnum):
    """What a saga is doing."""

    RUNNING = "RUNNING"
    FENCING = "FENCING"
    COMPENSATING = "COMPENSATING"
    ENDED = "ENDED"


class Cause(enum.StrEnum):
    """Why a saga is compensated."""

    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXHAUSTED = "EXHAUSTED"
    TIMED_OUT = "TIMED_OUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a saga is stopped: the cause, the step that failed or was under way, and a reason for people."""

    cause: Cause
    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that must have been sent: the compensation of ``step``, or where that is None the fence of ``service``.

    With ``redrive`` n it is the n-th redrive of ``step``. Attempts count through all redrives of a round.
    """

    service: str
    step: str | None
    attempt: int
    redrive: int | None = None

    @property
    def key(self) -> str:
        """The identity of the command among those of a saga, the same for every attempt."""
        if self.step is None:
            return fence_key(self.service)
        return self.step if self.redrive is None else redrive_key(self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a saga waits for. ``timer`` is the fact to record when that has not come within ``timeout_s``.

    A new ``key`` means a new deadline; while it stays the same, so does the deadline.
    """

    timer: Timer
    timeout_s: float
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", key_of(self.timer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows. ``parked`` is why a person has to look at the saga, ``failure`` why it is stopped.

    ``awaited``: the outcome of a step comes later, and nothing stops the saga. ``in_doubt``: it is stopped, and such an
    outcome is open. ``incident`` is what a provider contradicted. ``cancellation_lost``: it goes forward although it
    was cancelled.
    """

    phase: Phase
    step: str
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()
    waiting: Waiting | None = None
    parked: str | None = None
    awaited: bool = False
    in_doubt: bool = False
    incident: str | None = None
    cancellation_lost: bool = False

    @property
    def state(self) -> SagaState:
        """The saga's state as the API shows it."""
        if self.parked is not None:
            return SagaState.NEEDS_REVIEW
        if self.incident is not None:
            return SagaState.INCIDENT
        if self.in_doubt:
            return SagaState.IN_DOUBT
        if self.phase is not Phase.ENDED:
            return SagaState.PENDING
        return SagaState.CONFIRMED if self.failure is None else SagaState.CANCELLED_COMPENSATED

    @property
    def awaits_evidence(self) -> bool:
        """Whether the outcome of a step, or of its undo, comes later and is open."""
        return self.awaited or self.in_doubt

    @property
    def reason(self) -> str | None:
        """Why the saga is parked or stopped, for people."""
        return self.parked or self.incident or (self.failure.reason if self.failure else None)


def key_of(timer: Timer) -> str:
    """Return what a saga waits for as a text: the same for the same timer."""
    match timer:
        case TimedOut(step=step):
            return f"{step} to run"
        case EvidenceOverdue(step=step):
            return f"{step} to be settled"
        case ReplyOverdue(round_=round_, attempt=attempt):
            return f"{round_} reply {attempt}"


def fence_key(service: str) -> str:
    """Return the key of a service's fence among a saga's commands."""
    return f"{FENCE}:{service}"


def redrive_key(step: str) -> str:
    """Return the key of a step's redrive among a saga's commands and rounds."""
    return f"{REDRIVE}:{step}"
