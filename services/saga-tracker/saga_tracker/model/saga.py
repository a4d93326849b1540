"""The types of a saga's definition, which is data and is checked when it is built. They must know no saga by name.

Steps form a chain today: the success of each is the trigger of the next.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TypeAlias

from chassis.saga.ladder import Ladder
from chassis.saga.retry import RetryPolicy
from messages.contract import ENVELOPE_FIELDS, Message, name_of
from messages.saga import CancelSaga, SagaFenced, StepRedriven

SERVICE = "saga-tracker"
"""The tracker as the sender of a message."""
CANCEL_TOPIC = "saga.commands"
DECISIONS_TOPIC = "saga.decisions"
"""What the tracker decides itself. It acts on it when it reads it back."""

COMMAND_FIELDS = ("step", "attempt", "reason")
REPLY_FIELDS = ("step", "undone")
REJECTION_FIELDS = ("reason",)
COMPLETION_FIELDS = ("started_at",)
FAILURE_FIELDS = ("started_at", "cause", "step", "reason")
CANCELLATION_FIELDS = ("reason",)


class InvalidDefinition(ValueError):
    """A saga's definition contradicts itself. The text says which part, and what would be right."""


class StepKind(enum.StrEnum):
    """What a step means for the way back."""

    COMPENSATABLE = "compensatable"
    PIVOT = "pivot"
    """The step after which the saga is meant to complete."""
    RETRIABLE = "retriable"
    """A step after the pivot, which the business never rejects."""


class Exhausted(enum.StrEnum):
    """What happens when a step's retries are exhausted."""

    COMPENSATE = "compensate"
    """The failure is expected (a courier that stays down): stop the saga and compensate the steps that ran."""
    PARK = "park"
    """The failure is not expected: leave the saga as it is until a person looks at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationDefinition:
    """The command that undoes a step, and the event that reports that it is undone."""

    command: type[Message]
    reply: type[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedDefinition:
    """How the outcome of a step is awaited that comes minutes to days after its call.

    ``ladder`` is when its service queries for it. After ``evidence_timeout_s`` the saga is stopped, which only a step
    that can be undone may have. ``expected_within_s`` only alerts people: a longer wait is unusual. ``reference`` is
    the kind of the number that the provider gives an attempt, by which people find the saga while it waits; None where
    the provider gives none.
    """

    ladder: Ladder = field(default_factory=Ladder)
    expected_within_s: float = 900
    evidence_timeout_s: float | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectDefinition:
    """Whom a saga is about: the field of its starting event that names them, and what they are, in one word."""

    field: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceDefinition:
    """A field of one of the saga's events that holds a number which people have in hand. A personal one is hashed."""

    kind: str
    event: type[Message]
    field: str
    is_personal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """One local transaction of a saga. ``undone_by`` names an earlier step whose compensation undoes this one too.

    The ``timeout_s`` of an awaited step ends when its first attempt is begun. ``holds`` is what its service has in a
    row of its own exactly while the step is done, in words for people; None where that is nothing. A pivot that nothing
    undoes may be ``forward_only``: once it ran, a late step behind it parks, and never stops the saga. An awaited one
    is so anyway.
    """

    name: str
    service: str
    trigger: type[Message]
    succeeds_with: type[Message]
    rejected_with: type[Message] | None = None
    compensation: CompensationDefinition | None = None
    undone_by: str | None = None
    kind: StepKind = StepKind.COMPENSATABLE
    timeout_s: float
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    exhausted: Exhausted
    awaited: AwaitedDefinition | None = None
    holds: str | None = None
    forward_only: bool = False

    @property
    def has_no_return(self) -> bool:
        """Return whether it is the point of no return: a pivot that nothing undoes, which is awaited or says so."""
        is_undone = self.compensation is not None or self.undone_by is not None
        is_declared = self.awaited is not None or self.forward_only
        return is_declared and self.kind is StepKind.PIVOT and not is_undone

    @property
    def trigger_topic(self) -> str:
        """The topic from which the step's service consumes its trigger."""
        return f"{self.trigger.OWNER}.events"

    @property
    def dead_letter_topic(self) -> str:
        """The topic of the step's trigger once its retries are exhausted."""
        return f"{self.name}.dlq"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SagaDefinition:
    """One version of a saga. Raises InvalidDefinition where it contradicts itself.

    ``subject`` is None where it is about no one in particular. ``cancelled_by`` has each cancelling event with who
    cancels by it. ``reply_timeout_s`` is how long the tracker waits for the reply to a command before it sends the
    command again, ``command_attempts_max`` times in all.
    ``deadline_s`` limits the way forward as a whole: the timeouts of its steps, while services have their triggers.
    ``reactions`` has each event, its first and last ones included, with the services that react to it without being
    triggered by it. The service that starts it always has its last events.
    """

    name: str
    version: int
    started_by: type[Message]
    subject: SubjectDefinition | None
    cancelled_by: Mapping[type[Message], str]
    steps: tuple[StepDefinition, ...]
    completed_by: type[Message]
    failed_by: type[Message]
    reply_timeout_s: float
    command_attempts_max: int
    deadline_s: float
    references: tuple[ReferenceDefinition, ...] = ()
    reactions: Mapping[type[Message], tuple[str, ...]] = field(default_factory=dict)
    no_return: int | None = field(init=False)
    """The index of the step that has no return; None where every step can be undone."""

    def __post_init__(self) -> None:
        found = (index for index, step in enumerate(self.steps) if step.has_no_return)
        object.__setattr__(self, "no_return", next(found, None))
        problems = list(_problems(self))
        if problems:
            raise InvalidDefinition(f"{self.name} version {self.version}: " + " ".join(problems))

    @property
    def services(self) -> tuple[str, ...]:
        """The services that own its steps, in the order in which they first come."""
        return tuple(dict.fromkeys(step.service for step in self.steps))

    @property
    def participants(self) -> tuple[str, ...]:
        """The services that consume its messages: the starting one, those that own its steps, and those that react."""
        reacting = [service for services in self.reactions.values() for service in services]
        return tuple(dict.fromkeys([self.started_by.OWNER, *self.services, *reacting]))

    @property
    def reacting_services(self) -> frozenset[str]:
        """The services that react to its messages: one of them may keep reactions behind a message that it cannot read.

        They include the starting one, which always has its last events.
        """
        return frozenset({self.started_by.OWNER, *(name for names in self.reactions.values() for name in names)})

    @property
    def fenced_steps(self) -> tuple[StepDefinition, ...]:
        """The steps that a fence names: none behind the one without a return, which cannot run before it."""
        return self.steps if self.no_return is None else self.steps[: self.no_return + 1]

    @property
    def fenced_services(self) -> tuple[str, ...]:
        """The services that own these steps, in the order in which they first come."""
        return tuple(dict.fromkeys(step.service for step in self.fenced_steps))

    def fenced_steps_of(self, service: str) -> tuple[str, ...]:
        """Return the names of the steps that a fence of this service names."""
        return tuple(step.name for step in self.fenced_steps if step.service == service)

    def steps_of(self, service: str) -> tuple[str, ...]:
        """Return the names of the steps that a service owns."""
        return tuple(step.name for step in self.steps if step.service == service)

    @property
    def waits_s_max(self) -> float:
        """The longest time that it waits for anything by a deadline."""
        evidence_s = (step.awaited.evidence_timeout_s or 0 for step in self.steps if step.awaited is not None)
        return max((self.deadline_s, *evidence_s))

    @property
    def event_topics(self) -> tuple[str, ...]:
        """The topics that carry its events, each once."""
        owners = [self.started_by.OWNER, *(event.OWNER for event in self.cancelled_by), *self.services]
        return tuple(dict.fromkeys(f"{owner}.events" for owner in owners))

    @property
    def command_topics(self) -> tuple[str, ...]:
        """The topics of the commands that the tracker sends."""
        return tuple(f"{service}.commands" for service in self.participants)

    @property
    def dead_letter_topics(self) -> tuple[str, ...]:
        """The dead-letter topics of its steps, and of the services that consume its messages."""
        own = tuple(f"{service}.dlq" for service in self.participants)
        return tuple(step.dead_letter_topic for step in self.steps) + own


def _problems(definition: SagaDefinition) -> Iterator[str]:
    if not definition.steps:
        yield "It has no steps; give it at least one."
        return
    yield from _chain_problems(definition)
    yield from _step_problems(definition)
    yield from _awaited_problems(definition)
    yield from _limit_problems(definition)
    if definition.subject is not None:
        yield from _missing(definition.started_by, (definition.subject.field,), "the starting event")
    yield from _missing(definition.completed_by, COMPLETION_FIELDS, "the completing event")
    yield from _missing(definition.failed_by, FAILURE_FIELDS, "the failing event")
    for event in definition.cancelled_by:
        yield from _missing(event, CANCELLATION_FIELDS, "a cancelling event")
    events = {definition.started_by, *(step.succeeds_with for step in definition.steps)}
    for each in definition.references:
        if each.event not in events:
            yield f"{name_of(each.event)} holds the reference {each.kind}, but is no event of the way forward."
        yield from _missing(each.event, (each.field,), f"the event with the reference {each.kind}")
    outcomes = {event for step in definition.steps for event in (step.succeeds_with, step.rejected_with)}
    outcomes |= {definition.started_by, definition.completed_by, definition.failed_by}
    for event, services in definition.reactions.items():
        if event not in outcomes:
            yield f"{', '.join(services)} react to {name_of(event)}; name one of its events."


def _chain_problems(definition: SagaDefinition) -> Iterator[str]:
    expected = definition.started_by
    for step in definition.steps:
        if step.trigger is not expected:
            yield (
                f"{step.name} is triggered by {name_of(step.trigger)}, but the message before it is "
                f"{name_of(expected)}; in a chain each success triggers the next step."
            )
        expected = step.succeeds_with
    yield from _repeated((step.name for step in definition.steps), "step")
    used: list[type[Message]] = [definition.started_by, *definition.cancelled_by]
    used += [CancelSaga, SagaFenced, StepRedriven]
    for step in definition.steps:
        used += [step.succeeds_with, *([step.rejected_with] if step.rejected_with else [])]
        used += [step.compensation.command, step.compensation.reply] if step.compensation else []
    yield from _repeated((message.FULL_NAME for message in used), "message")


def _step_problems(definition: SagaDefinition) -> Iterator[str]:
    earlier: dict[str, StepDefinition] = {}
    for step in definition.steps:
        undoing = earlier.get(step.undone_by) if step.undone_by else None
        if step.compensation and step.undone_by:
            yield f"{step.name} has a compensation and undone_by {step.undone_by}; keep one."
        elif step.undone_by and (undoing is None or undoing.compensation is None or undoing.service != step.service):
            yield (
                f"{step.name} is undone by {step.undone_by}; that must be an earlier step of {step.service} "
                f"with a compensation."
            )
        elif step.kind is StepKind.COMPENSATABLE and not (step.compensation or step.undone_by):
            yield f"{step.name} is compensatable but nothing undoes it; give it a compensation or undone_by."
        if step.forward_only and not step.has_no_return:
            yield f"{step.name} is forward_only; that is only a pivot without a compensation."
        if step.rejected_with:
            yield from _missing(step.rejected_with, REJECTION_FIELDS, f"the rejection of {step.name}")
        if step.compensation:
            yield from _missing(step.compensation.command, COMMAND_FIELDS, f"the compensation of {step.name}")
            yield from _missing(step.compensation.reply, REPLY_FIELDS, f"the compensation's reply of {step.name}")
        earlier[step.name] = step


def _awaited_problems(definition: SagaDefinition) -> Iterator[str]:
    for step in definition.steps:
        if step.awaited is None:
            continue
        if step.exhausted is not Exhausted.PARK:
            yield f"{step.name} is awaited; when its queries end its outcome is still open, so it can only park."
        if not (step.has_no_return or step.compensation or step.undone_by):
            yield f"{step.name} is awaited and nothing undoes it; make it the pivot, or give it a compensation."
        timeout_s = step.awaited.evidence_timeout_s
        if timeout_s is not None and (step.has_no_return or timeout_s <= 0):
            yield f"{step.name} has an evidence_timeout_s of {timeout_s}; without a return none, else above 0."
    if definition.no_return is None:
        return
    pivot, *behind = definition.steps[definition.no_return :]
    for step in definition.steps[: definition.no_return]:
        if step.kind is not StepKind.COMPENSATABLE:
            yield f"{step.name} comes before {pivot.name}, which has no return; it must be compensatable."
    for step in behind:
        is_plain = step.kind is StepKind.RETRIABLE and step.exhausted is Exhausted.PARK and step.awaited is None
        if not is_plain or step.rejected_with or step.compensation or step.undone_by:
            yield (
                f"{step.name} comes behind {pivot.name}, which has no return; it must be retriable and park, "
                f"and is neither awaited, rejected nor undone."
            )


def _limit_problems(definition: SagaDefinition) -> Iterator[str]:
    limits = {f"the timeout of {step.name}": step.timeout_s for step in definition.steps}
    limits |= {"reply_timeout_s": definition.reply_timeout_s, "deadline_s": definition.deadline_s}
    limits |= {"command_attempts_max": definition.command_attempts_max, "version": definition.version}
    for limit, value in limits.items():
        if value <= 0:
            yield f"{limit} is {value}; it must be above 0."
    steps_s = sum(step.timeout_s for step in definition.fenced_steps)
    if steps_s > definition.deadline_s > 0:
        yield f"Its steps may take {steps_s:g} s in all, but deadline_s is {definition.deadline_s:g}; raise it."


def _repeated(names: Iterable[str], what: str) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"The {what} {name} is used twice; each has one meaning."
        seen.add(name)


def _missing(message: type[Message], required: tuple[str, ...], role: str) -> Iterator[str]:
    own = {each.name for each in fields(message)}.difference(ENVELOPE_FIELDS)
    for name in required:
        if name not in own:
            yield f"{name_of(message)} is {role} but has no field {name}; it has {', '.join(sorted(own)) or 'none'}."


Definitions: TypeAlias = Mapping[tuple[str, int], SagaDefinition]
"""Definitions by the name and version of their saga."""


def services_of(definitions: Definitions) -> frozenset[str]:
    """Return every service that has a part in any saga, and so has a topic of commands."""
    return frozenset(service for each in definitions.values() for service in each.participants)


def scaled(definitions: Definitions, factor: float) -> Definitions:
    """Return these definitions with every timeout multiplied by ``factor``, which is 1 except in tests."""
    return {key: _scaled(definition, factor) for key, definition in definitions.items()}


@cache
def _scaled(definition: SagaDefinition, factor: float) -> SagaDefinition:
    return replace(
        definition,
        steps=tuple(
            replace(step, timeout_s=step.timeout_s * factor, awaited=_scaled_awaited(step.awaited, factor))
            for step in definition.steps
        ),
        reply_timeout_s=definition.reply_timeout_s * factor,
        deadline_s=definition.deadline_s * factor,
    )


def _scaled_awaited(awaited: AwaitedDefinition | None, factor: float) -> AwaitedDefinition | None:
    if awaited is None or awaited.evidence_timeout_s is None:
        return awaited
    return replace(awaited, evidence_timeout_s=awaited.evidence_timeout_s * factor)
