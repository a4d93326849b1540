"""A service's handlers by the message that they handle. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from messages.contract import Message, name_of
from messages.saga import FenceSaga, RedriveStep

from chassis.saga.retry import RetryPolicy
from chassis.saga.steps import (
    AnyCompensation,
    AnyStep,
    ExternalCompensation,
    ExternalStep,
    Handler,
    Reaction,
    name,
)

FENCE = name_of(FenceSaga)
"""The kit's own handler, which every service with steps has."""
REDRIVE = name_of(RedriveStep)
"""The kit's own handler, which every service has."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """A service's handlers by the message that they handle."""

    steps: tuple[AnyStep, ...]
    reactions: tuple[Reaction[Any], ...]

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
        """Say whether a message may lead to a call to a provider."""
        return any(isinstance(each, ExternalStep | ExternalCompensation) for each in (*self.steps, *self.compensations))

    @property
    def commands(self) -> frozenset[type[Message]]:
        """The commands that the service handles; a service with steps can be fenced, and each can be redriven."""
        own: set[type[Message]] = {compensation.on for compensation in self.compensations}
        return frozenset(own | {FenceSaga, RedriveStep} if self.steps else own | {RedriveStep})

    @property
    def events(self) -> frozenset[type[Message]]:
        """The events that the service reacts to."""
        return frozenset(step.on for step in self.steps) | {reaction.on for reaction in self.reactions}

    def for_message(self, message_type: type[Message]) -> tuple[str, ...]:
        """Return the names of the handlers of a message."""
        found = [name(each) for each in (*self.steps, *self.reactions, *self.compensations) if each.on is message_type]
        built_in = {FenceSaga: FENCE, RedriveStep: REDRIVE}.get(message_type)
        return (*found, built_in) if built_in in self.built_in else tuple(found)

    @property
    def built_in(self) -> tuple[str, ...]:
        """The names of the kit's own handlers that the service has."""
        return (FENCE, REDRIVE) if self.steps else (REDRIVE,)

    def step(self, step_name: str) -> AnyStep | None:
        """Return the step of that name, or None."""
        return next((step for step in self.steps if step.name == step_name), None)

    @property
    def answers(self) -> dict[type[Message], str]:
        """What answers for which step: its success, its rejection, and the replies to its compensation."""
        found: dict[type[Message], str] = {}
        for step in self.steps:
            types = {step.succeeds_with} | ({step.rejected_with} if step.rejected_with else set())
            types.update(step.compensation.replies if step.compensation else ())
            found |= dict.fromkeys(types, step.name)
        return found

    def retry_of(self, handler_name: str) -> tuple[RetryPolicy, str | None]:
        """Return a handler's retry policy and the step whose dead-letter topic is meant (None: the service's own)."""
        for step in self.steps:
            if step.name == handler_name:
                return step.retry, step.name
            if step.compensation is not None and name(step.compensation) == handler_name:
                return step.compensation.retry, step.name
        for reaction in self.reactions:
            if name(reaction) == handler_name:
                return reaction.retry, None
        return RetryPolicy(), None
