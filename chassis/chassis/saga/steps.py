"""How a service declares what it does: its steps, their compensations, and its reactions.

A handler loads the rows of its whole batch, decides message by message in pure code, and saves. The chassis claims the
effects, calls the three, writes the outbox and commits: a handler cannot leave out the outbox, nor publish outside of
the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Connection

from chassis.saga.effects import EffectState
from chassis.saga.retry import RetryPolicy
from messages.contract import Envelope, Message, name_of

Trigger = TypeVar("Trigger", bound=Message)
Command = TypeVar("Command", bound=Message)
Rows = TypeVar("Rows")
Request = TypeVar("Request")
Outcome = TypeVar("Outcome")

NETWORK = timedelta(seconds=1)
"""How long a request may still be in the network after its client has reset the connection."""
CALL_DURATION = timedelta(seconds=3)
"""From the beginning of a call until nothing of it can be under way: 2 s for the client, the rest for the network."""
COMMIT_ALLOWANCE = timedelta(seconds=1)
"""What the transaction that plans a call may take at least; one that takes longer has a longer allowance
(:mod:`chassis.saga.commit_allowance`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Request, Outcome]):
    """A call to a provider outside, made under the :func:`idempotency_key` of its effect.

    ``prepare`` reads what the requests need, by saga id, in the transaction that claims the effects. ``run`` makes one
    call, on another thread and outside of any transaction. ``find`` queries the provider for the outcome of the call
    with that key; None means that it never arrived. Both raise ``Unavailable`` where the provider did not answer.
    """

    prepare: Callable[[Sequence[Any], Connection], Mapping[str, Request]]
    run: Callable[[Request, str], Outcome]
    find: Callable[[str], Outcome | None]
    duration: timedelta = CALL_DURATION


Lock: TypeAlias = Callable[[Sequence[Any], Connection], None]
"""Locks, in one order, every row that any of these messages may change, whichever handlers they are for.

Handlers that share rows (the stock of a product, the account of a customer) share such a function. Each of them locks
the rows of its own messages, so a batch for two of them locks twice; two replicas could then wait for each other. The
batch locks the rows for both at first.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation(Generic[Command, Rows]):
    """How a step is undone. ``undoes`` names every step whose effect it ends.

    ``decide`` receives whether to undo now. Where not, there is nothing to undo or it is undone already, and ``decide``
    only returns the reply.
    """

    on: type[Command]
    undoes: tuple[str, ...]
    load: Callable[[Sequence[Command], Connection], Rows]
    decide: Callable[[Command, bool, Rows, Envelope], Message]
    save: Callable[[Rows, Connection], None]
    replies: tuple[type[Message], ...]
    lock: Lock | None = None
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


AnyExternalCompensation: TypeAlias = ExternalCompensation[Any, Any, Any, Any]
AnyCompensation: TypeAlias = Compensation[Any, Any] | AnyExternalCompensation


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
    lock: Lock | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalStep(Generic[Trigger, Request, Outcome, Rows]):
    """A step that calls a provider outside: ``STARTED`` commits, then the call is made, then its outcome commits."""

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
    """What a service does about an event without being a step of a saga; it must tolerate redelivery."""

    on: type[Trigger]
    apply: Callable[[Sequence[Trigger], Connection], None]
    retry: RetryPolicy = field(default_factory=RetryPolicy)


AnyExternalStep: TypeAlias = ExternalStep[Any, Any, Any, Any]
AnyStep: TypeAlias = Step[Any, Any] | AnyExternalStep
Handler: TypeAlias = AnyStep | Reaction[Any]


def name(handler: Handler | AnyCompensation) -> str:
    """Return the handler's name in rows, logs and dead letters."""
    return handler.name if isinstance(handler, Step | ExternalStep) else name_of(handler.on)


def idempotency_key(saga_id: str, handler: AnyExternalStep | AnyExternalCompensation) -> str:
    """Return the key under which a provider is called for this saga: always the same one.

    A provider does one thing for one key. This key is what keeps a customer from being charged twice when a call is
    repeated after a crash, a timeout or a redrive, so it must never depend on the attempt, and its bytes must never
    change: calls of earlier releases are repeated and queried under it.
    """
    if isinstance(handler, ExternalStep):
        return f"{saga_id}:{handler.name}"
    return f"{saga_id}:{handler.undoes[0]}:undo"


def state_after(step: AnyStep, reply: Message) -> EffectState:
    """Return the state of the step's effect after it decided this. Raises TypeError for a type it does not declare."""
    if isinstance(reply, step.succeeds_with):
        return EffectState.DONE
    if step.rejected_with is not None and isinstance(reply, step.rejected_with):
        return EffectState.REJECTED
    raise TypeError(f"{step.name} answered with {name_of(type(reply))}; declare it as its success or its rejection.")
