"""A service's handlers by the message that they handle. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from chassis.saga.retry import RetryPolicy
from chassis.saga.steps import (
    STEP_TYPES,
    AnyAwaited,
    AnyCompensation,
    AnyStep,
    AwaitedCompensation,
    AwaitedStep,
    AwaitedStray,
    AwaitedUndo,
    Compensation,
    ExternalCompensation,
    ExternalStep,
    Handler,
    Lock,
    Reaction,
    Step,
    name,
)
from chassis.saga.triggers import Triggers
from messages.contract import Message, name_of
from messages.saga import FenceSaga, RedriveStep

FENCE = name_of(FenceSaga)
"""The built-in handler that every service with steps has."""
REDRIVE = name_of(RedriveStep)
"""The built-in handler that every service has."""

Declared: TypeAlias = Handler | AnyCompensation


@dataclass(frozen=True, slots=True)
class Handlers:
    """A service's handlers by the message that they handle. ``by_name`` has each declared one under its name.

    ``locks`` has, under its name, the lock of each handler that shares rows with another one.
    """

    steps: tuple[AnyStep, ...]
    reactions: tuple[Reaction[Any], ...]
    triggers: Triggers = field(init=False)
    by_name: Mapping[str, Declared] = field(init=False)
    locks: Mapping[str, Lock] = field(init=False)
    _names: Mapping[type[Message], tuple[str, ...]] = field(init=False)
    _retries: Mapping[str, tuple[RetryPolicy, str | None]] = field(init=False)

    def __post_init__(self) -> None:
        by_name: dict[str, Declared] = {}
        names: dict[type[Message], tuple[str, ...]] = {}
        for each in (*self.steps, *self.reactions, *self.compensations):
            if name(each) in by_name:
                raise ValueError(f"Two handlers are named {name(each)!r}; rename one, or handle its message in one.")
            by_name[name(each)] = each
            for message_type in _handled(each):
                names[message_type] = (*names.get(message_type, ()), name(each))
        for built_in, message_type in ((FENCE, FenceSaga), (REDRIVE, RedriveStep)):
            if built_in in self.built_in:
                names[message_type] = (*names.get(message_type, ()), built_in)
        object.__setattr__(self, "triggers", Triggers({step.name: step.triggers for step in self.steps}))
        object.__setattr__(self, "by_name", by_name)
        object.__setattr__(self, "locks", {name: lock for name, each in by_name.items() if (lock := _lock_of(each))})
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_retries", dict(self._policies()))

    @classmethod
    def of(cls, handlers: Iterable[Handler]) -> Handlers:
        """Sort the declared handlers by kind."""
        all_of_them = tuple(handlers)
        return cls(
            tuple(each for each in all_of_them if not isinstance(each, Reaction)),
            tuple(each for each in all_of_them if isinstance(each, Reaction)),
        )

    @property
    def compensations(self) -> tuple[AnyCompensation, ...]:
        """The compensations of all steps."""
        return tuple(step.compensation for step in self.steps if step.compensation is not None)

    @property
    def calls_out(self) -> bool:
        """Return whether a message may lead to a call to a provider."""
        calling = (ExternalStep, ExternalCompensation, AwaitedStep, AwaitedCompensation)
        return any(isinstance(each, calling) for each in self.by_name.values())

    @property
    def awaited(self) -> Mapping[str, AnyAwaited]:
        """The steps and the undos whose outcome comes later, by the name of their effect."""
        found: dict[str, AnyAwaited] = {step.name: step for step in self.steps if isinstance(step, AwaitedStep)}
        for step in self.steps:
            if isinstance(step.compensation, AwaitedCompensation):
                undo = AwaitedUndo(step=step.name, compensation=step.compensation)
                found[undo.name] = undo
            if isinstance(step, AwaitedStep) and step.undo_stray is not None:
                strays = [AwaitedStray(of=step, number=number) for number in range(1, step.policy.attempts_max + 1)]
                found |= {stray.name: stray for stray in strays}
        return found

    @property
    def commands(self) -> frozenset[type[Message]]:
        """The commands that the service handles; a service with steps can be fenced, and each can be redriven."""
        own: set[type[Message]] = {compensation.on for compensation in self.compensations}
        return frozenset(own | {FenceSaga, RedriveStep} if self.steps else own | {RedriveStep})

    @property
    def events(self) -> frozenset[type[Message]]:
        """The events that the service reacts to."""
        return self.triggers.events | {reaction.on for reaction in self.reactions}

    @property
    def sagas(self) -> frozenset[tuple[str, int]]:
        """The sagas that the service takes part in, by type and version."""
        return self.triggers.sagas.union(*(reaction.sagas for reaction in self.reactions))

    @property
    def built_in(self) -> tuple[str, ...]:
        """The names of the built-in handlers that the service has."""
        return (FENCE, REDRIVE) if self.steps else (REDRIVE,)

    @property
    def answers(self) -> dict[type[Message], str]:
        """The message types that answer for a step (its success, its rejection, its compensation's replies)."""
        found = dict(self.triggers.answers)
        for step in self.steps:
            found |= dict.fromkeys(step.compensation.replies if step.compensation else (), step.name)
        return found

    def is_rejection(self, message: Message) -> bool:
        """Return whether the message rejects its step."""
        step = self.step(self.answers.get(type(message), ""))
        return step is not None and any(type(message) is each.rejected_with for each in step.triggers)

    def for_message(self, message_type: type[Message]) -> tuple[str, ...]:
        """Return the names of the handlers that a message of this type may have, whatever its saga is."""
        return self._names.get(message_type, ())

    def handling(self, message: Message) -> tuple[str, ...]:
        """Return the names of the handlers of a message: of an event those in its saga alone."""
        names = self.for_message(type(message))
        return tuple(each for each in names if self._is_meant(self.by_name.get(each), message))

    def step(self, step_name: str) -> AnyStep | None:
        """Return the step of that name, or None."""
        found = self.by_name.get(step_name)
        return found if isinstance(found, STEP_TYPES) else None

    def retry_of(self, handler_name: str) -> tuple[RetryPolicy, str | None]:
        """Return a handler's retry policy and the step whose dead-letter topic is meant (None: the service's own)."""
        return self._retries.get(handler_name, (RetryPolicy(), None))

    @staticmethod
    def _is_meant(declared: Declared | None, message: Message) -> bool:
        """Return whether a handler of the message's type is one in its saga. The sender of a command knows the saga."""
        if isinstance(declared, STEP_TYPES):
            return any(trigger.serves(message) for trigger in declared.triggers)
        return not isinstance(declared, Reaction) or (message.saga_type, message.saga_version) in declared.sagas

    def _policies(self) -> Iterator[tuple[str, tuple[RetryPolicy, str | None]]]:
        for reaction in self.reactions:
            yield name(reaction), (reaction.retry, None)
        for step in self.steps:
            yield step.name, (step.retry, step.name)
            if step.compensation is not None:
                yield name(step.compensation), (step.compensation.retry, step.name)


def _handled(declared: Declared) -> Iterable[type[Message]]:
    """Return the types that a declared handler handles, each once."""
    if isinstance(declared, STEP_TYPES):
        return dict.fromkeys(trigger.on for trigger in declared.triggers)
    return (declared.on,)


def _lock_of(declared: Declared) -> Lock | None:
    return declared.lock if isinstance(declared, Step | Compensation) else None
