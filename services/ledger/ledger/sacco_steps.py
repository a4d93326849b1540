"""The steps of a SACCO's sagas: each books its request with its receipt, loan or payout, in one transaction.

All of them lock through one function: receipts, loans and payouts before balances, and each in one order. So a batch of
several steps waits for no other one that waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from chassis.postgres.transient import utc_now
from chassis.saga.steps import Compensation, Step
from chassis.saga.triggers import AnySagaTrigger, StepKey
from ledger.model.business_days import MEASURE_DAY, DayMeasurement, MeasureDay
from ledger.model.members import OPEN_MEMBER_ACCOUNTS, OpenMemberAccounts, accounts_of
from ledger.model.payment_books import Source
from ledger.model.payouts import PLACE_HOLD, held_payout
from ledger.model.receipts import HOLD_RETURN, state_before_return
from ledger.model.sacco_books import (
    Done,
    Needs,
    Outcome,
    PayoutState,
    ReceiptState,
    SaccoBooks,
    SaccoRequest,
    reversed_entries,
)
from ledger.model.transfers import NotBooked, reference_of
from ledger.store import sacco_books
from ledger.store.accounts import new_account, open_accounts
from ledger.store.measuring import measure
from messages.contract import Envelope, Message
from messages.ledger import HoldReleased, ReleaseHold, ReleaseReturn, ReturnReleased


def sacco_step(
    name: str,
    *,
    triggers: tuple[AnySagaTrigger, ...],
    compensation: Compensation[Any, SaccoBooks] | None = None,
    is_restored: bool = False,
) -> Step[Any, SaccoBooks]:
    """Return a step that books what its triggers read.

    ``is_restored``: a restored database books what the step published, since that depends on balances of its time.
    """
    return Step(
        name=name,
        triggers=triggers,
        load=_load,
        decide=_book,
        save=sacco_books.save,
        compensation=compensation,
        restore=_repost if is_restored else None,
        lock=_lock,
    )


def open_member_accounts(*, triggers: tuple[AnySagaTrigger, ...]) -> Step[OpenMemberAccounts, list[tuple[str, ...]]]:
    """Return the step that opens a member's accounts; those that are open already stay as they are."""
    return Step(
        name=OPEN_MEMBER_ACCOUNTS,
        triggers=triggers,
        load=lambda _requests, _tx: [],
        decide=_open,
        save=_save_opened,
        compensation=None,
    )


def measure_day(*, triggers: tuple[AnySagaTrigger, ...]) -> Step[MeasureDay, Mapping[StepKey, DayMeasurement]]:
    """Return the step that measures a business day; a restored database takes over what was measured."""
    return Step(
        name=MEASURE_DAY,
        triggers=triggers,
        load=lambda requests, tx: {each.key: measure(each, tx) for each in requests},
        decide=lambda request, measured, _envelope: Done(fields=measured[request.key].fields),
        save=lambda _measured, _tx: None,
        compensation=None,
        restore=lambda _request, _measured, published: published,
    )


def _load(requests: Sequence[SaccoRequest], tx: Connection) -> SaccoBooks:
    return sacco_books.load([each.needs() for each in requests], tx, now=utc_now())


def _book(request: SaccoRequest, books: SaccoBooks, envelope: Envelope) -> Outcome:
    books.loaded.booked_at = max(books.loaded.booked_at, envelope["occurred_at"])
    return request.book(books)


def _repost(request: Any, books: SaccoBooks, published: Done) -> Outcome:
    outcome: Outcome = request.repost(books, published)
    return outcome


def _lock(wanted: Sequence[SaccoRequest | Message], tx: Connection) -> None:
    needs = [_needed_to_undo(each) if isinstance(each, Message) else each.needs() for each in wanted]
    sacco_books.load(needs, tx, now=utc_now())


def _needed_to_undo(command: Message) -> Needs:
    """Return what the release of a payout's hold or of a return's needs: what was booked, and the row."""
    is_return = isinstance(command, ReleaseReturn)
    held = reference_of(command.saga_id, HOLD_RETURN if is_return else PLACE_HOLD)
    return Needs(
        own=(f"{held}:undo",),
        named=(held,),
        returned_by=(command.saga_id,) if is_return else (),
        payout_sagas=() if is_return else (command.saga_id,),
    )


def _load_undo(commands: Sequence[Message], tx: Connection) -> SaccoBooks:
    return sacco_books.load([_needed_to_undo(each) for each in commands], tx, now=utc_now())


def _release_hold(command: ReleaseHold, is_due: bool, books: SaccoBooks, envelope: Envelope) -> HoldReleased:
    """Give a payout's money back to what paid for it."""
    if is_due:
        payout = held_payout(books, command.saga_id)
        _take_back(command, PLACE_HOLD, books, envelope)
        books.put_payout(replace(payout, state=PayoutState.RELEASED, ended_at=books.loaded.booked_at))
    return HoldReleased(**envelope, step=command.step, undone=is_due)


def _release_return(command: ReleaseReturn, is_due: bool, books: SaccoBooks, envelope: Envelope) -> ReturnReleased:
    """Give back what is held for the return of a receipt."""
    if is_due:
        receipt = next((each for each in books.receipts.values() if each.returned_by == command.saga_id), None)
        if receipt is None or receipt.state is not ReceiptState.RETURNING:
            raise NotBooked(f"Nothing is held for return {command.saga_id}: {receipt}. See who changed the ledger.")
        _take_back(command, HOLD_RETURN, books, envelope)
        books.put_receipt(replace(receipt, state=state_before_return(receipt), returned_by=None))
    return ReturnReleased(**envelope, step=command.step, undone=is_due)


def _take_back(command: Message, step: str, books: SaccoBooks, envelope: Envelope) -> None:
    books.loaded.booked_at = max(books.loaded.booked_at, envelope["occurred_at"])
    source = Source(saga_id=command.saga_id, step=step, message_id=command.message_id)
    held = books.known(source.reference)
    books.book(source, reversed_entries(held.entries), suffix=":undo", corrects=source.reference)


def _open(request: OpenMemberAccounts, opened: list[tuple[str, ...]], _envelope: Envelope) -> int:
    paths = accounts_of(request.member_id, request.currency)
    opened.append(paths)
    return len(paths)


def _save_opened(opened: list[tuple[str, ...]], tx: Connection) -> None:
    now = utc_now()
    open_accounts([new_account(path, at=now) for paths in opened for path in paths], tx)


RELEASE_HOLD: Final = Compensation(
    on=ReleaseHold,
    undoes=(PLACE_HOLD,),
    load=_load_undo,
    decide=_release_hold,
    save=sacco_books.save,
    replies=(HoldReleased,),
    lock=_lock,
)
RELEASE_RETURN: Final = Compensation(
    on=ReleaseReturn,
    undoes=(HOLD_RETURN,),
    load=_load_undo,
    decide=_release_return,
    save=sacco_books.save,
    replies=(ReturnReleased,),
    lock=_lock,
)
