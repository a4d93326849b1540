"""What follows from what is known of a saga. Pure: no I/O, no clock, no randomness.

:func:`decide` derives a saga's state and the messages that it requires from the facts. It always uses all of them at
once, so any order of arrival gives the same end.

What one fact proves about others (in a chain the success of each step triggers the next):

- a success, a rejection or a dead letter of step k proves that every step before k ran;
- a rejection of step k proves that k and every step after it never runs;
- the replies of all services to a fence prove for every step whether it ran.

Ties, each decided the same way in any order of arrival:

- Facts that cannot both be true park the saga, until two operators resolve how it ends.
- A rejection makes history certain, so it outranks every other reason to stop; it is the cause that is reported.
- A cancellation outranks exhausted retries, and these outrank a timeout.
- Every step ran: the saga completes, unless a cancellation was accepted; then everything is compensated.
- Unprocessable messages, and exhausted retries with ``park``, only matter while nothing stops the saga: the fence
  finds out what happened to the step.
- A redrive makes earlier failures history, and nothing else. A step goes to its service once more; a round of
  commands gets as many attempts again.

Of a step whose outcome comes later:

- Its first attempt, or its service's reply that it is in doubt, proves that every step before it ran.
- A stopped saga waits, IN_DOUBT, until no step is in doubt. It then sends no command, and no time ends that.
- Behind a step without a return that ran, nothing stops the saga: a cancellation is lost, a late step parks.
- A contradiction about a step without a return that is not known to have run freezes the saga: an INCIDENT.

The order matters in two cases only, which are decided before a fact is recorded (:func:`admitted`), because the saga's
last event was sent: a cancellation of a saga that has ended is refused, and a contradiction is recorded as a mark.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

from saga_tracker.model.facts import (
    KEPT_MAX,
    Cancelled,
    Contradicted,
    EvidenceOverdue,
    Fact,
    Fenced,
    Progress,
    Redriven,
    ReplyOverdue,
    Resolution,
    Resolved,
    Succeeded,
    TimedOut,
    Timer,
    merge,
)
from saga_tracker.model.saga import Exhausted, SagaDefinition, StepDefinition

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
    """A provider contradicted itself about a step that nothing undoes. It is frozen until people have settled it."""


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

    ``incident`` is what a provider contradicted. ``cancellation_lost``: it goes forward although it was cancelled.
    """

    phase: Phase
    step: str
    failure: Failure | None = None
    commands: tuple[Command, ...] = ()
    waiting: Waiting | None = None
    parked: str | None = None
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


class StepOutcome(enum.StrEnum):
    """What is known of one step, as the API shows it."""

    WAITING = "waiting"
    AWAITED = "awaited"
    """Its call is made; its outcome comes later."""
    RAN = "ran"
    REJECTED = "rejected"
    COMPENSATED = "compensated"
    NOT_RUN = "not_run"
    """It never runs, or it is not its turn yet."""


def outcomes(definition: SagaDefinition, progress: Progress) -> dict[str, StepOutcome]:
    """Return the outcome of each step, in the order of the definition."""
    decision = decide(definition, progress)
    ran_count = ran_count_of(definition, progress)
    found: dict[str, StepOutcome] = {}
    for index, step in enumerate(definition.steps):
        if step.name in progress.rejected:
            found[step.name] = StepOutcome.REJECTED
        elif (step.undone_by or step.name) in progress.compensated and index < ran_count:
            found[step.name] = StepOutcome.COMPENSATED
        elif index < ran_count:
            found[step.name] = StepOutcome.RAN
        elif progress.is_under_way(step.name) and step.name not in progress.never_ran:
            found[step.name] = StepOutcome.AWAITED
        elif decision.phase is Phase.RUNNING and step.name == decision.step:
            found[step.name] = StepOutcome.WAITING
        else:
            found[step.name] = StepOutcome.NOT_RUN
    return found


def fence_key(service: str) -> str:
    """Return the key of a service's fence among a saga's commands."""
    return f"{FENCE}:{service}"


def redrive_key(step: str) -> str:
    """Return the key of a step's redrive among a saga's commands and rounds."""
    return f"{REDRIVE}:{step}"


class NotRedrivable(Exception):
    """There is nothing to redrive. The text says why, and what to do instead."""


def redrive(definition: SagaDefinition, progress: Progress, *, at: datetime, by: str, reason: str) -> Redriven:
    """Return the fact that redrives what the saga is parked for. Raises NotRedrivable."""
    decision = decide(definition, progress)
    if decision.incident is not None:
        raise NotRedrivable(f"{decision.incident}. No redrive changes what was paid; settle it by hand.")
    if decision.parked is None:
        raise NotRedrivable(f"It is not parked: it is {decision.state} in {decision.phase}.")
    if decision.phase is Phase.FENCING:
        round_ = redrive_key(decision.step) if decision.in_doubt else FENCE
    elif decision.phase is Phase.COMPENSATING:
        round_ = decision.step
    elif contradiction_of(definition, progress, ran_count_of(definition, progress)) is not None:
        raise NotRedrivable("Facts that cannot both be true are recorded; two operators have to resolve it.")
    elif decision.step in progress.never_ran:
        raise NotRedrivable(f"{decision.step} is fenced and never runs; compensate the saga instead.")
    else:
        round_ = redrive_key(decision.step)
    number = progress.redrives.get(round_, 0)
    if round_ == redrive_key(decision.step):
        # A service's parked messages may have been redriven outside of this round; the next number exceeds them all.
        failed = (progress.exhausted.get(decision.step), progress.unprocessable.get(decision.step))
        number = max(number, *(each[0] for each in failed if each is not None), 0)
    number += 1
    return Redriven(
        round_=round_, number=number, at=at, by=by, reason=reason, letters=frozenset(progress.unresolved_letters)
    )


def admits(definition: SagaDefinition, progress: Progress, fact: Fact) -> bool:
    """Return whether a fact may be recorded: any but a cancellation that comes too late."""
    return admitted(definition, progress, fact) is not None


def admitted(definition: SagaDefinition, progress: Progress, fact: Fact) -> Fact | None:
    """Return the fact to record. None: a cancellation of a saga that has ended, or that has no return any more.

    A contradiction after the end is recorded as a mark.
    """
    if not isinstance(fact, Cancelled | Contradicted):
        return fact
    has_ended = decide(definition, progress).phase is Phase.ENDED
    if isinstance(fact, Contradicted):
        return replace(fact, is_mark=True) if has_ended else fact
    return None if has_ended or _has_passed_no_return(definition, progress) else fact


def is_late(definition: SagaDefinition, before: Progress, fact: Fact) -> bool:
    """Return whether a fact reports a success that was unknown when the saga was stopped."""
    if not isinstance(fact, Succeeded | Fenced) or _stop(definition, before) is None:
        return False
    return ran_count_of(definition, merge(before, fact)) > ran_count_of(definition, before)


def decide(definition: SagaDefinition, progress: Progress) -> Decision:
    """Return what follows from everything that is known, by the rules in the module's docstring, in their order."""
    return _decided(definition, progress)


@lru_cache(KEPT_MAX)
def _decided(definition: SagaDefinition, progress: Progress) -> Decision:
    ran_count = ran_count_of(definition, progress)
    last = definition.steps[min(ran_count, len(definition.steps) - 1)].name
    if progress.resolved is not None:
        return _resolved(definition, progress, last, progress.resolved)
    contradiction = contradiction_of(definition, progress, ran_count)
    if contradiction is not None:
        return Decision(phase=Phase.RUNNING, step=last, parked=contradiction)
    if _has_passed_no_return(definition, progress):
        return _forward(definition, progress, ran_count, last)
    if (incident := _incident(definition, progress)) is not None:
        return incident
    if progress.rejected:
        ((step, reason),) = progress.rejected.items()
        failure = Failure(cause=Cause.REJECTED, step=step, reason=reason or f"{step} was rejected")
        return _compensate(definition, progress, ran_count, failure)
    stop = _stop(definition, progress)
    if ran_count == len(definition.steps) and (stop is None or stop.cause is not Cause.CANCELLED):
        return Decision(phase=Phase.ENDED, step=last)
    if stop is None:
        return _run(definition, progress, definition.steps[ran_count])
    if ran_count < len(definition.steps) and not progress.fenced_services.issuperset(definition.fenced_services):
        return _fence(definition, progress, last, stop)
    if (doubt := _doubt(definition, progress, ran_count, stop)) is not None:
        return doubt
    return _compensate(definition, progress, ran_count, stop)


def _has_passed_no_return(definition: SagaDefinition, progress: Progress) -> bool:
    """Return whether the step ran that has no return: from then on the saga only goes forward."""
    index = definition.no_return
    return index is not None and ran_count_of(definition, progress) > index


def _forward(definition: SagaDefinition, progress: Progress, ran_count: int, last: str) -> Decision:
    """Go on behind the step without a return, whatever else is known: a cancellation is lost, a late step parks."""
    if ran_count == len(definition.steps):
        decision = Decision(phase=Phase.ENDED, step=last)
    else:
        decision = _run(definition, progress, definition.steps[ran_count])
    return replace(decision, cancellation_lost=True) if progress.cancelled is not None else decision


def _incident(definition: SagaDefinition, progress: Progress) -> Decision | None:
    """Freeze a saga whose step without a return is contradicted: no command is sent, since none can be right."""
    step = None if definition.no_return is None else definition.steps[definition.no_return].name
    if step is None or step not in progress.contradicted:
        return None
    return Decision(phase=Phase.RUNNING, step=step, incident=f"{step}: {progress.contradicted[step]}")


def _doubt(definition: SagaDefinition, progress: Progress, ran_count: int, failure: Failure) -> Decision | None:
    """Wait for the evidence of a step that is in doubt; None where none is. No time ends the wait."""
    step = next((each for each in definition.steps[ran_count:] if each.name in progress.open_doubt), None)
    if step is None:
        return None
    round_, failed = redrive_key(step.name), progress.exhausted.get(step.name)
    decision = Decision(phase=Phase.FENCING, step=step.name, failure=failure, in_doubt=True)
    if failed is not None and not progress.is_history(failed, round_):
        return replace(decision, parked=f"{step.name}: {failed[1]}")
    if (command := _redrive_command(definition, progress, step)) is not None:
        found = _await_replies(definition, progress, Phase.FENCING, step.name, failure, (command,), round_)
        return replace(found, in_doubt=True)
    return decision


def _resolved(definition: SagaDefinition, progress: Progress, step: str, resolved: Resolved) -> Decision:
    """End the saga as two operators resolved. No fact says for certain what ran, so every step is compensated.

    A compensation of a step that never ran fences it and has no other effect.
    """
    if resolved.resolution is Resolution.CONFIRMED:
        return Decision(phase=Phase.ENDED, step=step)
    reason = f"{resolved.proposed_by} and {resolved.by}: {resolved.reason}"
    failure = Failure(cause=Cause.CANCELLED, step=step, reason=reason)
    if not progress.fenced_services.issuperset(definition.fenced_services):
        return _fence(definition, progress, step, failure)
    if (doubt := _doubt(definition, progress, 0, failure)) is not None:
        return doubt
    return _compensate(definition, progress, len(definition.steps), failure)


def ran_count_of(definition: SagaDefinition, progress: Progress) -> int:
    """Return how many steps, from the first on, are proven to have run."""
    count = 0
    for index, step in enumerate(definition.steps):
        if step.name in progress.ran:
            count = index + 1
        elif step.name in progress.rejected or step.name in progress.exhausted or progress.is_under_way(step.name):
            count = index
    return count


def contradiction_of(definition: SagaDefinition, progress: Progress, ran_count: int) -> str | None:
    """Return which facts cannot both be true; None where none contradict one another."""
    if not (progress.rejected or progress.never_ran):
        return None
    if len(progress.rejected) > 1:
        return f"{' and '.join(sorted(progress.rejected))} are both recorded as rejected; in a chain only one can be."
    for step in definition.steps[:ran_count]:
        if step.name in progress.rejected:
            return f"{step.name} is recorded as rejected, and it or a step after it as run."
        if step.name in progress.never_ran:
            return f"{step.name} is recorded as fenced before it ran, and it or a step after it as run."
    return None


def _stop(definition: SagaDefinition, progress: Progress) -> Failure | None:
    """Return why the saga must stop before history is certain; None where nothing stops it."""
    if progress.cancelled is not None:
        _, by, reason = progress.cancelled
        under_way = min(ran_count_of(definition, progress), len(definition.steps) - 1)
        return Failure(cause=Cause.CANCELLED, step=definition.steps[under_way].name, reason=f"{by}: {reason}")
    if progress.exhausted or progress.timed_out:
        for step in definition.steps:
            if step.name in progress.exhausted and step.exhausted is Exhausted.COMPENSATE:
                return Failure(cause=Cause.EXHAUSTED, step=step.name, reason=progress.exhausted[step.name][1])
        for step in definition.steps:
            if step.name in progress.timed_out:
                reason = f"{step.name} did not answer in time"
                return Failure(cause=Cause.TIMED_OUT, step=step.name, reason=reason)
    return None


def _run(definition: SagaDefinition, progress: Progress, step: StepDefinition) -> Decision:
    if (parked := _parked(progress, step)) is not None:
        return Decision(phase=Phase.RUNNING, step=step.name, parked=parked)
    if (command := _redrive_command(definition, progress, step)) is not None:
        round_ = redrive_key(step.name)
        return _await_replies(definition, progress, Phase.RUNNING, step.name, None, (command,), round_)
    if step.name in progress.timed_out:  # Only behind a step without a return; elsewhere it stops the saga.
        return Decision(phase=Phase.RUNNING, step=step.name, parked=f"{step.name} is late")
    waiting: Waiting | None = Waiting(timer=TimedOut(step=step.name), timeout_s=step.timeout_s)
    if step.name in progress.awaited:
        timeout_s = None if step.awaited is None else step.awaited.evidence_timeout_s
        waiting = None if timeout_s is None else Waiting(timer=EvidenceOverdue(step=step.name), timeout_s=timeout_s)
    return Decision(phase=Phase.RUNNING, step=step.name, waiting=waiting)


def _redrive_command(definition: SagaDefinition, progress: Progress, step: StepDefinition) -> Command | None:
    """Return the command that redrives a step; None where no redrive waits for its reply."""
    round_ = redrive_key(step.name)
    number = progress.redrives.get(round_, 0)
    answered, _ = progress.redriven.get(step.name, (0, None))
    if answered >= number:
        return None
    attempt = _attempt(definition, progress, round_)
    return Command(service=step.service, step=step.name, attempt=attempt, redrive=number)


def _parked(progress: Progress, step: StepDefinition) -> str | None:
    """Return why the saga cannot continue at this step; None where it can."""
    for failures in (progress.exhausted, progress.unprocessable):
        failed = failures.get(step.name)
        if failed is not None and not progress.is_history(failed, redrive_key(step.name)):
            return f"{step.name}: {failed[1]}"
    if letters := progress.unresolved_letters:
        return max(letters.values())
    if step.name in progress.never_ran:
        return f"{step.name} is fenced and never will run"
    return None


def _before(definition: SagaDefinition, progress: Progress, round_: str) -> int:
    """Return the last attempt at a round's commands that is history: 0 before a step's first redrive."""
    redrives = progress.redrives.get(round_, 0) - (1 if round_.startswith(f"{REDRIVE}:") else 0)
    return redrives * definition.command_attempts_max


def _attempt(definition: SagaDefinition, progress: Progress, round_: str) -> int:
    """Return the attempt at a round's commands that must have been sent: one more than was overdue, up to the limit."""
    before = _before(definition, progress, round_)
    overdue = max(progress.overdue.get(round_, 0), before)
    return min(overdue + 1, before + definition.command_attempts_max)


def _fence(definition: SagaDefinition, progress: Progress, step: str, failure: Failure) -> Decision:
    attempt = _attempt(definition, progress, FENCE)
    commands = tuple(
        Command(service=service, step=None, attempt=attempt)
        for service in definition.fenced_services
        if service not in progress.fenced_services
    )
    return _await_replies(definition, progress, Phase.FENCING, step, failure, commands, FENCE)


def _compensate(definition: SagaDefinition, progress: Progress, ran_count: int, failure: Failure) -> Decision:
    """Compensate the first ``ran_count`` steps in reverse, each after the reply for the one before."""
    for step in reversed(definition.steps[:ran_count]):
        if step.compensation is None or step.name in progress.compensated:
            continue
        attempt = _attempt(definition, progress, step.name)
        command = Command(service=step.service, step=step.name, attempt=attempt)
        return _await_replies(
            *(definition, progress, Phase.COMPENSATING, step.name, failure, (command,), step.name),
            in_doubt=step.name in progress.undo_awaited,
        )
    return Decision(phase=Phase.ENDED, step=failure.step, failure=failure)


def _await_replies(
    definition: SagaDefinition,
    progress: Progress,
    phase: Phase,
    step: str,
    failure: Failure | None,
    commands: tuple[Command, ...],
    round_: str,
    *,
    in_doubt: bool = False,
) -> Decision:
    """Wait for the replies to these commands. Park where one is dead, or where the last attempt got no reply.

    ``in_doubt``: the command was taken, and the reply follows evidence that comes later. So none is overdue.
    """
    before = _before(definition, progress, round_)
    overdue = max(progress.overdue.get(round_, 0), before)
    last = before + definition.command_attempts_max
    dead = [command.key for command in commands if progress.dead_commands.get(command.key, (0, ""))[0] > before]
    waiting: Waiting | None = None
    parked: str | None = None
    if dead:
        parked = f"the command {dead[0]} was dead-lettered: {progress.dead_commands[dead[0]][1]}"
    elif overdue >= last and not in_doubt:
        silent = ", ".join(command.service for command in commands)
        parked = f"no reply from {silent} after {overdue} attempts ({round_})"
    if len(dead) < len(commands) and overdue < last and not in_doubt:
        timer = ReplyOverdue(round_=round_, attempt=overdue + 1)
        waiting = Waiting(timer=timer, timeout_s=definition.reply_timeout_s)
    return Decision(
        phase=phase,
        step=step,
        failure=failure,
        commands=commands,
        waiting=waiting,
        parked=parked,
        in_doubt=in_doubt,
    )
