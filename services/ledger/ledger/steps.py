"""Steps that book one transfer: a hold, its post or its void, or entries at once. Each is undone by another transfer.

A saga's step is declared by :func:`booking`, with functions that read its trigger. What it books has the reference
``<saga>:<step>``, and what undoes it ``<saga>:<step>:undo``, so that each is booked once whatever is delivered again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection

from chassis.saga.steps import Compensation, Step
from ledger.model.decisions import Loaded, decide
from ledger.model.transfers import Booked, Entry, Origin, Reason, Refused, Transfer, TransferKind, reference_of
from ledger.tables import load, save
from messages.contract import Envelope, Message

REJECTIONS: Final = frozenset(
    {
        Reason.INSUFFICIENT_FUNDS,
        Reason.LIMIT_EXCEEDED,
        Reason.ACCOUNT_UNKNOWN,
        Reason.ACCOUNT_CLOSED,
        Reason.CURRENCY_MISMATCH,
        Reason.UNBALANCED,
        Reason.AMOUNT_OUT_OF_RANGE,
        Reason.HOLD_EXPIRED,
        Reason.HOLD_RESOLVED,
    }
)
"""What the business may reject. HOLD_RESOLVED is a hold that has expired: nothing else resolves a saga's hold before
its own step does. Any other reason is a defect: the step is retried, and then it waits for a person."""

Trigger = TypeVar("Trigger", bound=Message)
Command = TypeVar("Command", bound=Message)


class NotBooked(RuntimeError):
    """The ledger refused a transfer for a reason that is no rejection of its step; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo(Generic[Command]):
    """How a booking is undone: a hold by a void, anything else by a correction.

    ``reply`` gets whether it was undone now, and the entries that were corrected.
    """

    on: type[Command]
    reply: Callable[[Command, bool, Sequence[Entry], Envelope], Message]
    replies_with: type[Message]
    is_void: bool = False


def booking(
    name: str,
    *,
    on: type[Trigger],
    transfer: Callable[[Trigger], Transfer],
    succeeded: Callable[[Trigger, Envelope], Message],
    succeeds_with: type[Message],
    rejected_with: type[Message] | None = None,
    undo: Undo[Any] | None = None,
) -> Step[Trigger, Loaded]:
    """Return a step that books ``transfer`` of its trigger; its reference and origin are set here.

    A rejection has the fields ``reason``, a code such as ``insufficient_funds``, and ``detail``.
    """

    def requested(event: Trigger) -> Transfer:
        origin = Origin(saga_id=event.saga_id, step=name, message_id=event.message_id)
        return replace(transfer(event), reference=reference_of(event.saga_id, name), origin=origin)

    def load_all(events: Sequence[Trigger], tx: Connection) -> Loaded:
        return load([requested(event) for event in events], tx)

    def book(event: Trigger, loaded: Loaded, envelope: Envelope) -> Message:
        outcome = _decided(requested(event), loaded, envelope)
        if isinstance(outcome, Booked):
            return succeeded(event, envelope)
        if rejected_with is None or outcome.reason not in REJECTIONS:
            raise _not_booked(event.saga_id, name, outcome)
        return rejected_with.from_record({**envelope, "reason": outcome.reason.lower(), "detail": outcome.detail})

    return Step(
        name=name,
        on=on,
        load=load_all,
        decide=book,
        save=save,
        succeeds_with=succeeds_with,
        rejected_with=rejected_with,
        compensation=None if undo is None else _compensation(name, undo),
    )


def undoing(command: Message, step: str, *, is_void: bool, entries: Sequence[Entry] = ()) -> Transfer:
    """Return the transfer that undoes what a saga's step booked: a void, or each of ``entries`` with the other sign."""
    booked = reference_of(command.saga_id, step)
    return Transfer(
        reference=f"{booked}:undo",
        kind=TransferKind.VOID if is_void else TransferKind.CORRECTION,
        of=booked,
        entries=tuple(Entry(each.account, -each.amount_minor, each.currency) for each in entries),
        origin=Origin(saga_id=command.saga_id, step=step, message_id=command.message_id),
    )


def _compensation(step: str, undo: Undo[Command]) -> Compensation[Command, Loaded]:
    def load_all(commands: Sequence[Command], tx: Connection) -> Loaded:
        transfers = [undoing(command, step, is_void=undo.is_void) for command in commands]
        return load(transfers, tx)

    def undo_booked(command: Command, is_due: bool, loaded: Loaded, envelope: Envelope) -> Message:
        """Book what undoes the step. A hold that is resolved, by its end or a later step, needs nothing more."""
        booked = reference_of(command.saga_id, step)
        entries: Sequence[Entry] = ()
        if is_due and not (undo.is_void and booked in loaded.resolved):
            entries = () if undo.is_void else loaded.known[booked].entries
            outcome = _decided(undoing(command, step, is_void=undo.is_void, entries=entries), loaded, envelope)
            if isinstance(outcome, Refused):
                raise _not_booked(command.saga_id, step, outcome)
        return undo.reply(command, is_due, entries, envelope)

    return Compensation(
        on=undo.on, undoes=(step,), load=load_all, decide=undo_booked, save=save, replies=(undo.replies_with,)
    )


def _decided(transfer: Transfer, loaded: Loaded, envelope: Envelope) -> Booked | Refused:
    loaded.booked_at = max(loaded.booked_at, envelope["occurred_at"])
    return decide(transfer, loaded)


def _not_booked(saga_id: str, step: str, refused: Refused) -> NotBooked:
    return NotBooked(f"{reference_of(saga_id, step)} was refused: {refused.reason}. {refused.detail}")
