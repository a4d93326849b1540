"""Steps that book one transfer: a hold, its post or its void, or entries at once. Each is undone by another transfer.

A step is declared by :func:`booking`; the trigger of each saga reads what it books (:mod:`ledger.sagas`). What it books
has the reference ``<saga>:<step>``, and what undoes it ``<saga>:<step>:undo``, so that each is booked once whatever is
delivered again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from chassis.saga.steps import Compensation, Step
from chassis.saga.triggers import AnySagaTrigger
from ledger.domain import BookTransfer, not_booked
from ledger.model.decisions import Loaded, decide
from ledger.model.transfers import Entry, Origin, Outcome, Refused, Transfer, TransferKind, reference_of
from ledger.tables import load, save
from messages.contract import Envelope, Message

Command = TypeVar("Command", bound=Message)


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
    name: str, *, triggers: tuple[AnySagaTrigger, ...], undo: Undo[Any] | None = None
) -> Step[BookTransfer, Loaded]:
    """Return a step that books what its triggers read."""
    return Step(
        name=name,
        triggers=triggers,
        load=_load,
        decide=_book,
        save=save,
        compensation=None if undo is None else _compensation(name, undo),
    )


def _load(requests: Sequence[BookTransfer], tx: Connection) -> Loaded:
    return load([each.transfer for each in requests], tx)


def _book(request: BookTransfer, loaded: Loaded, envelope: Envelope) -> Outcome:
    return _decided(request.transfer, loaded, envelope)


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
                raise not_booked(f"What undoes {booked}", outcome)
        return undo.reply(command, is_due, entries, envelope)

    return Compensation(
        on=undo.on, undoes=(step,), load=load_all, decide=undo_booked, save=save, replies=(undo.replies_with,)
    )


def _decided(transfer: Transfer, loaded: Loaded, envelope: Envelope) -> Outcome:
    loaded.booked_at = max(loaded.booked_at, envelope["occurred_at"])
    return decide(transfer, loaded)
