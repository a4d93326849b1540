"""How one step serves several sagas: for each, the event that triggers it there and how that event is read. Pure.

A service declares a step over a request of its own (``AuthorizePayment(amount_minor, currency, token)``). A saga's
trigger reads its event into that request, and makes the saga's own event of the step's outcome. So no event has fields
that one saga alone fills, and the step knows no saga.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from messages.contract import Envelope, Message, name_of

Trigger = TypeVar("Trigger", bound=Message)
Request = TypeVar("Request", bound="StepRequest")
Outcome = TypeVar("Outcome")

Route: TypeAlias = tuple[str, int, type[Message]]
"""A saga's type, its version and the type of a message."""
StepKey: TypeAlias = tuple[str, str]
"""A saga's id and a step's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """What a step is to do for one saga. A saga may have two steps of one kind, so both together key the rows."""

    saga_id: str
    step: str

    @property
    def key(self) -> StepKey:
        """The key of the step's rows."""
        return self.saga_id, self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaTrigger(Generic[Trigger, Request, Outcome]):
    """What triggers a step in one saga. ``versions`` are the versions of the saga in which it does.

    ``read`` makes the request to the step of that name of the event. ``publish`` makes the saga's event of the one
    that triggered the step and of the step's outcome; its type is ``succeeds_with`` or ``rejected_with``. ``restore``
    reads what a published success says of the outcome, for a step that takes it over in a restored database.
    """

    saga: str
    versions: tuple[int, ...]
    on: type[Trigger]
    read: Callable[[Trigger, str], Request]
    publish: Callable[[Trigger, Outcome, Envelope], Message]
    succeeds_with: type[Message]
    rejected_with: type[Message] | None = None
    restore: Callable[[Any], Any] | None = None

    def serves(self, message: Message) -> bool:
        """Return whether this message triggers the step."""
        return type(message) is self.on and message.saga_type == self.saga and message.saga_version in self.versions

    @property
    def routes(self) -> Iterator[Route]:
        """The routes of its event, one for each version of the saga."""
        return ((self.saga, version, self.on) for version in self.versions)

    @property
    def answers(self) -> Iterator[Route]:
        """The routes of the events that answer for its step."""
        types = (self.succeeds_with, *([self.rejected_with] if self.rejected_with else []))
        return ((self.saga, version, each) for version in self.versions for each in types)


AnySagaTrigger: TypeAlias = SagaTrigger[Any, Any, Any]


class AmbiguousTrigger(ValueError):
    """Two declarations claim the same message of a saga. The text names both, and what to change."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """A service's triggers, found by saga type, version and message.

    One message may trigger several steps of one saga; each step at most once.
    """

    by_step: Mapping[str, tuple[AnySagaTrigger, ...]]
    _routes: Mapping[Route, tuple[tuple[str, AnySagaTrigger], ...]] = field(init=False)
    _answers: Mapping[Route, str] = field(init=False)

    def __post_init__(self) -> None:
        routes: dict[Route, tuple[tuple[str, AnySagaTrigger], ...]] = {}
        answers: dict[Route, str] = {}
        by_type: dict[type[Message], str] = {}
        for step, trigger in self._all():
            for route in trigger.routes:
                known = routes.get(route, ())
                if step in (name for name, _ in known):
                    raise AmbiguousTrigger(f"{step} is triggered twice by {_text(route)}; declare one trigger.")
                routes[route] = (*known, (step, trigger))
            for route in trigger.answers:
                other = by_type.setdefault(route[-1], step)
                if other != step:
                    raise AmbiguousTrigger(f"{_text(route)} answers for {other} and {step}; give each its own event.")
                answers[route] = step
        object.__setattr__(self, "_routes", routes)
        object.__setattr__(self, "_answers", answers)

    def of(self, message: Message) -> tuple[tuple[str, AnySagaTrigger], ...]:
        """Return the steps that a message triggers, each with its trigger; none for a saga that has none here."""
        return self._routes.get((message.saga_type, message.saga_version, type(message)), ())

    def answered_by(self, message: Message) -> str | None:
        """Return the step for which a message of this service answers, or None."""
        return self._answers.get((message.saga_type, message.saga_version, type(message)))

    @property
    def answers(self) -> Mapping[type[Message], str]:
        """The step that each message type answers for, in whichever saga. It is the same step in all of them."""
        return {message_type: step for (_, _, message_type), step in self._answers.items()}

    @property
    def events(self) -> frozenset[type[Message]]:
        """The events that trigger a step in any saga. Before it is decoded, a message is known by its type alone."""
        return frozenset(event for _, _, event in self._routes)

    @property
    def sagas(self) -> frozenset[tuple[str, int]]:
        """The sagas that the service takes part in, by type and version."""
        return frozenset((saga, version) for saga, version, _ in self._routes)

    def missing(self, sagas: Iterable[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        """Return which of these sagas the service takes no part in."""
        return frozenset(sagas) - self.sagas

    def _all(self) -> Iterator[tuple[str, AnySagaTrigger]]:
        return ((step, trigger) for step, triggers in self.by_step.items() for trigger in triggers)


def _text(route: Route) -> str:
    saga, version, message_type = route
    return f"{name_of(message_type)} of {saga} version {version}"
