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

The order matters in two cases only, which are decided before a fact is recorded (:mod:`saga_tracker.model.operating`),
because the saga's last event was sent: a cancellation of a saga that has ended is refused, and a contradiction is
recorded as a mark.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from saga_tracker.model.decision import (
    FENCE,
    REDRIVE,
    Cause,
    Command,
    Decision,
    Failure,
    Phase,
    Waiting,
    redrive_key,
)
from saga_tracker.model.facts import (
    KEPT_MAX,
    EvidenceOverdue,
    Progress,
    ReplyOverdue,
    Resolution,
    Resolved,
    TimedOut,
)
from saga_tracker.model.saga import Exhausted, SagaDefinition, StepDefinition


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
    if has_passed_no_return(definition, progress):
        return _forward(definition, progress, ran_count, last)
    if (incident := _incident(definition, progress)) is not None:
        return incident
    if progress.rejected:
        ((step, reason),) = progress.rejected.items()
        failure = Failure(cause=Cause.REJECTED, step=step, reason=reason or f"{step} was rejected")
        return _compensate(definition, progress, ran_count, failure)
    stop = stop_of(definition, progress)
    if ran_count == len(definition.steps) and (stop is None or stop.cause is not Cause.CANCELLED):
        return Decision(phase=Phase.ENDED, step=last)
    if stop is None:
        return _run(definition, progress, definition.steps[ran_count])
    if ran_count < len(definition.steps) and not progress.fenced_services.issuperset(definition.fenced_services):
        return _fence(definition, progress, last, stop)
    if (doubt := _doubt(definition, progress, ran_count, stop)) is not None:
        return doubt
    return _compensate(definition, progress, ran_count, stop)


def has_passed_no_return(definition: SagaDefinition, progress: Progress) -> bool:
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


def stop_of(definition: SagaDefinition, progress: Progress) -> Failure | None:
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
    is_awaited = step.name in progress.awaited
    if (parked := _parked(progress, step)) is not None:
        return Decision(phase=Phase.RUNNING, step=step.name, parked=parked, awaited=is_awaited)
    if (command := _redrive_command(definition, progress, step)) is not None:
        round_ = redrive_key(step.name)
        decision = _await_replies(definition, progress, Phase.RUNNING, step.name, None, (command,), round_)
        return replace(decision, awaited=is_awaited)
    if step.name in progress.timed_out:  # Only behind a step without a return; elsewhere it stops the saga.
        return Decision(phase=Phase.RUNNING, step=step.name, parked=f"{step.name} is late")
    waiting: Waiting | None = Waiting(timer=TimedOut(step=step.name), timeout_s=step.timeout_s)
    if is_awaited:
        timeout_s = None if step.awaited is None else step.awaited.evidence_timeout_s
        waiting = None if timeout_s is None else Waiting(timer=EvidenceOverdue(step=step.name), timeout_s=timeout_s)
    return Decision(phase=Phase.RUNNING, step=step.name, waiting=waiting, awaited=is_awaited)


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
