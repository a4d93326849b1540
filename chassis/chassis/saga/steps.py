"""How a service declares what it does: its steps, their compensations, and its reactions.

A handler loads the rows of its whole batch, decides message by message in pure code, and saves. The kit claims the
effects, calls the three, writes the outbox and commits: a handler cannot forget the outbox, nor publish outside of
the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from messages.contract import Envelope, Message, name_of
from sqlalchemy import Connection

from chassis.saga.retry import RetryPolicy

Trigger = TypeVar("Trigger", bound=Message)
Command = TypeVar("Command", bound=Message)
Rows = TypeVar("Rows")
Request = TypeVar("Request")
Outcome = TypeVar("Outcome")

CALL_DEADLINE_S = 4.0
"""When a call can no longer be under way: the client's timeout (2 s), as much again for what is still travelling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Request, Outcome]):
    """A question to a provider outside, made with an idempotency key that its effect always has.

    ``prepare`` reads what the requests need, by saga id, in the transaction that claims the effects. ``run`` makes one
    call, on another thread and outside of any transaction. ``find`` asks the provider what became of the call with
    that key; None means that it never came. Both raise ``Unavailable`` where the provider gave no answer.
    """

    prepare: Callable[[Sequence[Any], Connection], Mapping[str, Request]]
    run: Callable[[Request, str], Outcome]
    find: Callable[[str], Outcome | None]
    deadline: timedelta = timedelta(seconds=CALL_DEADLINE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation(Generic[Command, Rows]):
    """How a step is undone. ``undoes`` names every step whose effect it ends.

    ``decide`` is told whether to undo now; when not, nothing is to be undone or it is undone already: it only says so.
    """

    on: type[Command]
    undoes: tuple[str, ...]
    load: Callable[[Sequence[Command], Connection], Rows]
    decide: Callable[[Command, bool, Rows, Envelope], Message]
    save: Callable[[Rows, Connection], None]
    replies: tuple[type[Message], ...]
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCompensation(Generic[Command, Request, Outcome, Rows]):
    """How a step is undone at a provider; ``decide`` gets the outcome, or None where there was nothing to undo."""

    on: type[Command]
    undoes: tuple[str, ...]
    call: Call[Request, Outcome]
    load: Callable[[Sequence[Command], Connection], Rows]
    decide: Callable[[Command, Outcome | None, Rows, Envelope], Message]
    save: Callable[[Rows, Connection], None]
    replies: tuple[type[Message], ...]
    retry: RetryPolicy = field(default_factory=RetryPolicy)


AnyCompensation: TypeAlias = Compensation[Any, Any] | ExternalCompensation[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Trigger, Rows]):
    """A step that touches only the service's own database: effect, rows and event commit together."""

    name: str
    on: type[Trigger]
    load: Callable[[Sequence[Trigger], Connection], Rows]
    decide: Callable[[Trigger, Rows, Envelope], Message]
    save: Callable[[Rows, Connection], None]
    succeeds_with: type[Message]
    rejected_with: type[Message] | None
    compensation: AnyCompensation | None
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalStep(Generic[Trigger, Request, Outcome, Rows]):
    """A step that asks a provider outside: ``STARTED`` commits first, then the call, then its outcome commits."""

    name: str
    on: type[Trigger]
    call: Call[Request, Outcome]
    load: Callable[[Sequence[Trigger], Connection], Rows]
    decide: Callable[[Trigger, Outcome, Rows, Envelope], Message]
    save: Callable[[Rows, Connection], None]
    succeeds_with: type[Message]
    rejected_with: type[Message] | None
    compensation: AnyCompensation | None
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction(Generic[Trigger]):
    """Something that a service does about an event without being a step of a saga; it must bear redelivery."""

    on: type[Trigger]
    apply: Callable[[Sequence[Trigger], Connection], None]
    retry: RetryPolicy = field(default_factory=RetryPolicy)


AnyStep: TypeAlias = Step[Any, Any] | ExternalStep[Any, Any, Any, Any]
Handler: TypeAlias = AnyStep | Reaction[Any]


def name(handler: Handler | AnyCompensation) -> str:
    """Return what the handler is called in rows, logs and dead letters."""
    return handler.name if isinstance(handler, Step | ExternalStep) else name_of(handler.on)
