"""What people may do to a saga, which facts may be recorded, and what is shown of its steps. Pure."""

from __future__ import annotations

import enum
from dataclasses import replace
from datetime import datetime

from saga_tracker.model.contradictions import Contradicted, Settled
from saga_tracker.model.decision import FENCE, Phase, redrive_key
from saga_tracker.model.facts import Cancelled, Fact, Fenced, Progress, Redriven, Succeeded, merge
from saga_tracker.model.progress import contradiction_of, decide, has_passed_no_return, ran_count_of, stop_of
from saga_tracker.model.saga import SagaDefinition


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


class NothingToSettle(Exception):
    """No contradiction is open that a person has to settle."""


def settle(progress: Progress, *, at: datetime, by: str, reason: str) -> Settled:
    """Return the fact that every open contradiction is settled. Raises NothingToSettle."""
    if not progress.unsettled:
        raise NothingToSettle("No contradiction is open: there is none, its service undoes it, or it is settled.")
    return Settled(contradictions=progress.unsettled, at=at, by=by, reason=reason)


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
    return None if has_ended or has_passed_no_return(definition, progress) else fact


def marked(progress: Progress) -> Progress:
    """Return what is known of a saga that has ended: each of its contradictions is a mark.

    Which of them were recorded before its end depends on the order of topics, and nothing decides on them any more.
    """
    if not progress.contradicted:
        return progress
    marks = {step: max(reason, progress.marks.get(step, "")) for step, reason in progress.contradicted.items()}
    return replace(progress, contradicted={}, marks={**progress.marks, **marks})


def is_late(definition: SagaDefinition, before: Progress, fact: Fact) -> bool:
    """Return whether a fact reports a success that was unknown when the saga was stopped."""
    if not isinstance(fact, Succeeded | Fenced) or stop_of(definition, before) is None:
        return False
    return ran_count_of(definition, merge(before, fact)) > ran_count_of(definition, before)
