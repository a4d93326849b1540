"""For those who test a definition: give facts, and see what follows. Pure; nothing that serves imports it.

    rehearse(ORDER_V1).ran("authorize_payment").rejected("reserve_inventory").commands
    # ("RefundPayment authorize_payment",)

A rehearsal is a value: each method returns another one. :meth:`Rehearsal.to_the_end` lets every service reply to what
the tracker sends, and shows how the saga ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from messages.contract import name_of
from saga_tracker.model.contradictions import Contradicted
from saga_tracker.model.decision import Command, Decision, SagaState
from saga_tracker.model.facts import (
    NOTHING,
    Awaited,
    Cancelled,
    Compensated,
    EvidenceOverdue,
    Fact,
    Fenced,
    Progress,
    Rejected,
    ReplyOverdue,
    RetriesExhausted,
    StepState,
    Succeeded,
    TimedOut,
    merge_all,
)
from saga_tracker.model.progress import decide
from saga_tracker.model.saga import SagaDefinition

LATER = datetime(2000, 1, 1, tzinfo=UTC)
"""When something is cancelled. No decision depends on it."""
COMMANDS_MAX = 1_000
"""More commands than any saga needs to end: a definition that sends more never ends."""


class NeverEnds(AssertionError):
    """A saga that gets every reply at once still sends commands. Its definition is wrong, or the tracker is."""


class UnknownStep(LookupError):
    """The definition has no step of that name; the text lists those that it has."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A saga of which these facts are known. ``sent`` are the commands that its services have replied to so far."""

    definition: SagaDefinition
    progress: Progress = NOTHING
    sent: tuple[str, ...] = ()

    @property
    def decision(self) -> Decision:
        """What follows from the facts."""
        return decide(self.definition, self.progress)

    @property
    def state(self) -> SagaState:
        """The state that people see."""
        return self.decision.state

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that must have been sent now: ``FenceSaga <service>``, or ``<command> <step>``."""
        return tuple(self._text(command) for command in self.decision.commands)

    @property
    def waits_s(self) -> float | None:
        """How long the saga waits for what comes next; None where no time ends its wait."""
        return None if self.decision.waiting is None else self.decision.waiting.timeout_s

    def ran(self, *steps: str) -> Rehearsal:
        """These steps succeeded."""
        return self.given(*(Succeeded(step=self._known(step)) for step in steps))

    def rejected(self, step: str, reason: str = "no") -> Rehearsal:
        """The step was rejected."""
        return self.given(Rejected(step=self._known(step), reason=reason))

    def awaited(self, step: str, attempt: int = 1, *, undo: bool = False) -> Rehearsal:
        """An attempt at the step, or at its undo, was begun whose outcome comes later."""
        return self.given(Awaited(step=self._known(step), attempt=attempt, undo=undo))

    def contradicted(self, step: str, reason: str = "it succeeded after all") -> Rehearsal:
        """Evidence contradicts what was published of the step."""
        return self.given(Contradicted(step=self._known(step), attempt=1, reason=reason))

    def late(self, step: str) -> Rehearsal:
        """The step's time passed; of one whose outcome comes later, the time that its evidence may take."""
        is_begun = self.progress.is_under_way(self._known(step))
        return self.given(EvidenceOverdue(step=step) if is_begun else TimedOut(step=step))

    def exhausted(self, step: str, reason: str = "it failed") -> Rehearsal:
        """The retries of the step's trigger are exhausted, or the queries about its outcome have ended."""
        return self.given(RetriesExhausted(step=self._known(step), reason=reason))

    def cancelled(self, by: str = "staff", reason: str = "no longer wanted") -> Rehearsal:
        """Its cancellation was accepted."""
        return self.given(Cancelled(at=LATER, by=by, reason=reason))

    def fenced(self, service: str, **states: StepState) -> Rehearsal:
        """The service replied to the fence. Steps without a state have run if they are known to have, or never will."""
        found = tuple(
            (step, states.get(step, StepState.DONE if step in self._ran else StepState.FENCED))
            for step in self.definition.fenced_steps_of(service)
        )
        return self.given(Fenced(service=service, states=found))

    def silent(self) -> Rehearsal:
        """No reply came in time to what was sent last."""
        waiting = self.decision.waiting
        assert waiting is not None, "it waits for no reply; look at its decision"
        assert isinstance(waiting.timer, ReplyOverdue), f"it waits for {waiting.key}, not for a reply"
        return self.given(waiting.timer)

    def compensated(self, step: str) -> Rehearsal:
        """The service replied that the step is compensated."""
        return self.given(Compensated(step=self._known(step)))

    def given(self, *facts: Fact) -> Rehearsal:
        """These facts are known as well."""
        return replace(self, progress=merge_all(self.progress, facts))

    def to_the_end(self) -> Rehearsal:
        """Let every service reply to every command, until none is sent. Raises NeverEnds."""
        played = self
        while played.decision.commands and played.decision.parked is None:
            if len(played.sent) > COMMANDS_MAX:
                raise NeverEnds(f"{self.definition.name} has sent {', '.join(played.sent[:10])} and so on.")
            for command in played.decision.commands:
                played = replace(played._replied(command), sent=(*played.sent, played._text(command)))
        return played

    @property
    def _ran(self) -> frozenset[str]:
        """The steps that are proven to have run: a step's success proves those before it."""
        names = [step.name for step in self.definition.steps]
        last = max((names.index(step) for step in self.progress.ran), default=-1)
        return frozenset(names[: last + 1])

    def _replied(self, command: Command) -> Rehearsal:
        if command.step is None:
            return self.fenced(command.service)
        return self.compensated(command.step)

    def _text(self, command: Command) -> str:
        if command.step is None:
            return f"FenceSaga {command.service}"
        if command.redrive is not None:
            return f"RedriveStep {command.step}"
        compensation = self.definition.steps[self._index(command.step)].compensation
        assert compensation is not None, "only a step with a compensation is compensated"
        return f"{name_of(compensation.command)} {command.step}"

    def _known(self, step: str) -> str:
        self._index(step)
        return step

    def _index(self, step: str) -> int:
        names = [each.name for each in self.definition.steps]
        if step not in names:
            raise UnknownStep(f"{self.definition.name} has no step {step!r}; it has {', '.join(names)}.")
        return names.index(step)


def rehearse(definition: SagaDefinition) -> Rehearsal:
    """Return a saga of this definition that has started."""
    return Rehearsal(definition)
