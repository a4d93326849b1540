"""How a service declares what it does: its steps, their compensations, and its reactions.

A step is declared once, over a request of its service's own. For each saga that it serves it has a trigger, which
reads the saga's event into that request (:mod:`chassis.saga.triggers`).

A handler loads the rows of its whole batch, decides message by message in pure code, and saves. The chassis claims the
effects, calls the three, writes the outbox and commits: a handler cannot leave out the outbox, nor publish outside of
the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Connection

from chassis.saga.answers import Accepted, Proven, QueryAnswer, SendAnswer, Settlement
from chassis.saga.attempts import AwaitedPolicy
from chassis.saga.awaited import stray_undo, undo_step
from chassis.saga.effects import EffectState
from chassis.saga.ladder import Ladder
from chassis.saga.retry import RetryPolicy
from chassis.saga.triggers import AnySagaTrigger, StepRequest
from messages.contract import Envelope, Message, name_of

Event = TypeVar("Event", bound=Message)
Command = TypeVar("Command", bound=Message)
Rows = TypeVar("Rows")
Requested = TypeVar("Requested", bound=StepRequest)
Request = TypeVar("Request")
Outcome = TypeVar("Outcome")

NETWORK = timedelta(seconds=1)
"""How long a request may still be in the network after its client has reset the connection."""
CALL_DURATION = timedelta(seconds=3)
"""From the beginning of a call until nothing of it can be under way: 2 s for the client, the rest for the network."""
COMMIT_ALLOWANCE = timedelta(seconds=1)
"""What the transaction that plans a call may take at least; one that takes longer has a longer allowance
(:mod:`chassis.saga.commit_allowance`)."""


@dataclass(frozen=True, slots=True)
class NoCall(Generic[Outcome]):
    """A step has nothing to call its provider for: this is its outcome, which commits with the effect."""

    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Request, Outcome]):
    """A call to a provider outside, made under the :func:`idempotency_key` of its effect.

    ``prepare`` receives the step's requests, or the commands of a compensation. It reads what the provider is to be
    sent, by saga id, in the transaction that claims the effects; of a step it may return :class:`NoCall`. ``run`` makes
    one call, on another thread and outside of any transaction. ``find`` queries the provider for the outcome of the
    call with that key; None means that it never arrived. Both raise ``Unavailable`` where the provider did not answer.
    """

    prepare: Callable[[Sequence[Any], Connection], Mapping[str, Request | NoCall[Outcome]]]
    run: Callable[[Request, str], Outcome]
    find: Callable[[str], Outcome | None]
    duration: timedelta = CALL_DURATION


Lock: TypeAlias = Callable[[Sequence[Any], Connection], None]
"""Locks, in one order, every row that any of these may change: requests of steps, and commands.

Handlers that share rows (the stock of a product, the account of a customer) share such a function. Each of them locks
the rows of its own messages, so a batch for two of them locks twice; two replicas could then wait for each other. The
batch locks the rows for both at first.
"""

Besides: TypeAlias = Sequence[Message] | None
"""What is published besides the answers to a batch, in its transaction and at once after it; None is nothing.

A message that begins another saga, or that belongs to none. It gets the partition number and the trace of the message
that its ``causation_id`` names; where that is null, the partition number of the batch's first one.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedCall(Generic[Request]):
    """The calls to a provider whose outcome comes later; each takes the attempt's key, which a repeat has too.

    ``prepare`` is a :class:`Call`'s. ``query`` and ``cancel`` take the provider's own id as well, once it is known.
    ``cancel`` returns VOIDED or CANCEL_REFUSED as proven, or that evidence of either comes later. All raise
    ``Unavailable`` without an answer.

    Where only the request says which of several providers has the attempt, ``query_of`` and ``cancel_of`` take it
    first. It is prepared anew for each of their calls.
    """

    prepare: Callable[[Sequence[Any], Connection], Mapping[str, Request]]
    send: Callable[[Request, str], SendAnswer]
    query: Callable[[str, str | None], QueryAnswer] | None = None
    cancel: Callable[[str, str | None], Accepted | Proven] | None = None
    query_of: Callable[[Request, str, str | None], QueryAnswer] | None = None
    cancel_of: Callable[[Request, str, str | None], Accepted | Proven] | None = None
    duration: timedelta = CALL_DURATION

    def __post_init__(self) -> None:
        if (self.query is None) == (self.query_of is None):
            raise ValueError("An awaited call has a query or a query_of; give one of them.")
        if (self.cancel or self.cancel_of) and (self.cancel is None) == (self.query_of is None):
            raise ValueError("A cancel goes with a query, a cancel_of with a query_of; give both in one form.")

    @property
    def takes_request(self) -> bool:
        """Whether a query and a cancel need the request."""
        return self.query_of is not None

    @property
    def can_cancel(self) -> bool:
        """Whether an attempt can be cancelled."""
        return self.cancel is not None or self.cancel_of is not None

    def answer_query(self, request: Any, key: str, provider_id: str | None) -> QueryAnswer:
        """Query the provider for an attempt."""
        if self.query_of is not None:
            return self.query_of(request, key, provider_id)
        assert self.query is not None, "there is a query where there is no query_of"
        return self.query(key, provider_id)

    def answer_cancel(self, request: Any, key: str, provider_id: str | None) -> Accepted | Proven:
        """Cancel an attempt."""
        if self.cancel_of is not None:
            return self.cancel_of(request, key, provider_id)
        assert self.cancel is not None, "only a step that can be cancelled is"
        return self.cancel(key, provider_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedCompensation(Generic[Command, Request, Rows]):
    """How a step is undone at a provider that proves so later. It is replied to on that proof alone.

    ``decide`` is a :class:`Compensation`'s. ``sends_max`` is how often the undo may be sent under its one key.
    """

    on: type[Command]
    undoes: tuple[str, ...]
    call: AwaitedCall[Request]
    load: Callable[[Sequence[Command], Connection], Rows]
    decide: Callable[[Command, bool, Rows, Envelope], Message]
    save: Callable[[Rows, Connection], None]
    replies: tuple[type[Message], ...]
    sends_max: int = 3
    ladder: Ladder = field(default_factory=Ladder)
    retry: RetryPolicy = field(default_factory=RetryPolicy)


AnyExternalCompensation: TypeAlias = ExternalCompensation[Any, Any, Any, Any]
AnyAwaitedCompensation: TypeAlias = AwaitedCompensation[Any, Any, Any]
AnyCompensation: TypeAlias = Compensation[Any, Any] | AnyExternalCompensation | AnyAwaitedCompensation


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Requested, Rows]):
    """A step that touches only the service's own database: effect, rows and event commit together.

    ``decide`` returns the outcome, of which the saga's trigger makes the event that is published. ``restore`` returns
    the outcome again in a restored database, of what its trigger has read in the published success. A step needs it
    whose outcome depends on rows that a reaction changes: nothing says which reactions came before a decision. Without
    it ``decide`` is called again.

    ``save`` returns what is published besides (:data:`Besides`).
    """

    name: str
    triggers: tuple[AnySagaTrigger, ...]
    load: Callable[[Sequence[Requested], Connection], Rows]
    decide: Callable[[Requested, Rows, Envelope], Any]
    save: Callable[[Rows, Connection], Besides]
    compensation: AnyCompensation | None
    restore: Callable[[Requested, Rows, Any], Any] | None = None
    lock: Lock | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        if self.restore is not None and not all(trigger.restore for trigger in self.triggers):
            raise ValueError(f"{self.name} is restored from what it published; give each of its triggers a restore.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalStep(Generic[Requested, Request, Outcome, Rows]):
    """A step that calls a provider outside: ``STARTED`` commits, then the call is made, then its outcome commits.

    ``record`` takes the provider's outcome into the rows. Of the outcome the saga's trigger makes the event.
    """

    name: str
    triggers: tuple[AnySagaTrigger, ...]
    call: Call[Request, Outcome]
    load: Callable[[Sequence[Requested], Connection], Rows]
    record: Callable[[Requested, Outcome, Rows], None]
    save: Callable[[Rows, Connection], None]
    compensation: AnyCompensation | None
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedStep(Generic[Requested, Request, Rows]):
    """A step whose outcome comes minutes to days after its call, as evidence (:mod:`chassis.saga.awaited`).

    ``judge`` returns what a proof means for what was requested, where an adapter cannot know that; it is pure.
    ``record`` takes the settlement into the rows, once. Of the settlement the saga's trigger makes the event.
    ``undo_stray`` undoes an attempt whose success belongs to no step: its ``prepare`` gets a :class:`StrayAttempt`, its
    outcome may come later as well. Without it a person is called.
    ``lane`` names what a request needs to be open before another attempt of it begins, after one that failed by our
    fault (a short code without float, an account whose credentials are wrong). ``open_lanes`` returns which of these
    lanes are open. Without them every ladder's next time begins an attempt.
    """

    name: str
    triggers: tuple[AnySagaTrigger, ...]
    policy: AwaitedPolicy
    call: AwaitedCall[Request]
    load: Callable[[Sequence[Requested], Connection], Rows]
    record: Callable[[Requested, Settlement, Rows], None]
    save: Callable[[Rows, Connection], None]
    compensation: AnyCompensation | None
    undo_stray: AwaitedCall[Any] | None = None
    judge: Callable[[Requested, Proven], Proven] | None = None
    lane: Callable[[Requested], str] | None = None
    open_lanes: Callable[[Collection[str], Connection], Collection[str]] | None = None
    ladder: Ladder = field(default_factory=Ladder)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        if (self.lane is None) != (self.open_lanes is None):
            raise ValueError(f"{self.name} has a lane and what says which lanes are open, or neither; give both.")
        if self.policy.no_return and self.undo_stray is not None:
            raise ValueError(f"Nothing undoes {self.name} by its policy; leave out its undo_stray.")
        if self.policy.can_cancel and not self.call.can_cancel:
            raise ValueError(f"{self.name} can be cancelled by its policy; its call needs a cancel.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedUndo:
    """The undo of a step as something whose outcome comes later: it has an effect and attempts of its own."""

    step: str
    compensation: AnyAwaitedCompensation

    @property
    def name(self) -> str:
        """The name of its effect and of its attempts."""
        return undo_step(self.step)

    @property
    def policy(self) -> AwaitedPolicy:
        """How it is sent: nothing undoes an undo, so it is also sent while its saga is fenced."""
        return AwaitedPolicy(no_return=True, sends_max=self.compensation.sends_max)

    @property
    def ladder(self) -> Ladder:
        """When its provider is queried."""
        return self.compensation.ladder

    @property
    def call(self) -> AwaitedCall[Any]:
        """Its calls."""
        return self.compensation.call


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayAttempt:
    """An attempt whose success belongs to no step: it was taken for failed, and its step ended without it."""

    saga_id: str
    step: str
    number: int
    key: str
    provider_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedStray:
    """The undo of a stray attempt. It has an effect and attempts of its own; no command asks for it or waits for it."""

    of: AnyAwaitedStep
    number: int

    @property
    def step(self) -> str:
        """The name of the step."""
        return self.of.name

    @property
    def name(self) -> str:
        """The name of its effect and of its attempts."""
        return stray_undo(self.of.name, self.number)

    @property
    def policy(self) -> AwaitedPolicy:
        """How it is sent: nothing undoes an undo, so it is also sent while its saga is fenced."""
        return AwaitedPolicy(no_return=True, sends_max=self.of.policy.sends_max)

    @property
    def ladder(self) -> Ladder:
        """When its provider is queried."""
        return self.of.ladder

    @property
    def call(self) -> AwaitedCall[Any]:
        """Its calls."""
        assert self.of.undo_stray is not None, "only a step with such calls has stray undos"
        return self.of.undo_stray


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction(Generic[Event]):
    """What a service does about an event of these sagas, by type and version, without being a step of one.

    It must tolerate redelivery. ``apply`` returns what is published (:data:`Besides`).
    """

    on: type[Event]
    sagas: frozenset[tuple[str, int]]
    apply: Callable[[Sequence[Event], Connection], Besides]
    retry: RetryPolicy = field(default_factory=RetryPolicy)


AnyExternalStep: TypeAlias = ExternalStep[Any, Any, Any, Any]
AnyAwaitedStep: TypeAlias = AwaitedStep[Any, Any, Any]
AnyAwaited: TypeAlias = AnyAwaitedStep | AwaitedUndo | AwaitedStray
AnyStep: TypeAlias = Step[Any, Any] | AnyExternalStep | AnyAwaitedStep
Handler: TypeAlias = AnyStep | Reaction[Any]


STEP_TYPES = (Step, ExternalStep, AwaitedStep)


def name(handler: Handler | AnyCompensation) -> str:
    """Return the handler's name in rows, logs and dead letters."""
    return handler.name if isinstance(handler, STEP_TYPES) else name_of(handler.on)


def idempotency_key(saga_id: str, handler: AnyExternalStep | AnyExternalCompensation) -> str:
    """Return the key under which a provider is called for this saga: always the same one.

    A provider does one thing for one key. This key is what keeps a customer from being charged twice when a call is
    repeated after a crash, a timeout or a redrive, so it must never depend on the attempt, and its bytes must never
    change: calls of earlier releases are repeated and queried under it.
    """
    if isinstance(handler, ExternalStep):
        return f"{saga_id}:{handler.name}"
    return f"{saga_id}:{handler.undoes[0]}:undo"


def trigger_of(step: AnyStep, message: Message) -> AnySagaTrigger:
    """Return the trigger of the step in the message's saga. Raises LookupError where the message triggers it in none.

    A step has one trigger for each saga, so there are few.
    """
    for trigger in step.triggers:
        if trigger.serves(message):
            return trigger
    saga = f"{message.saga_type} version {message.saga_version}"
    raise LookupError(f"{name_of(type(message))} of {saga} does not trigger {step.name}.")


def request_of(step: AnyStep, message: Message) -> StepRequest:
    """Return what the message asks of the step. Raises LookupError where it does not trigger it."""
    request: StepRequest = trigger_of(step, message).read(message, step.name)
    return request


def answer(step: AnyStep, message: Message, outcome: object, envelope: Envelope) -> tuple[Message, EffectState]:
    """Return the event that is published of a step's outcome, and the state of its effect.

    Raises TypeError for an event of a type that the step's trigger does not declare.
    """
    trigger = trigger_of(step, message)
    event = trigger.publish(message, outcome, envelope)
    if isinstance(event, trigger.succeeds_with):
        return event, EffectState.DONE
    if trigger.rejected_with is not None and isinstance(event, trigger.rejected_with):
        return event, EffectState.REJECTED
    raise TypeError(f"{step.name} answered with {name_of(type(event))}; declare it as its success or its rejection.")
