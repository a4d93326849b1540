"""The steps of merchants' payments: each books what its request needs, with the payment's status, in one transaction.

All of them lock through one function, payments before balances and each in one order, so that a batch of several steps
waits for no other one that waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from chassis.postgres.transient import utc_now
from chassis.saga.retry import RetryPolicy
from chassis.saga.steps import Compensation, Step
from chassis.saga.triggers import AnySagaTrigger
from ledger import late_captures
from ledger.domain import OpenMerchantAccounts
from ledger.model.merchants import accounts_of
from ledger.model.payment_books import (
    CAPTURE_OR_VOID,
    OPEN_MERCHANT_ACCOUNTS,
    RESERVE_BALANCE,
    Books,
    Needs,
    PaymentRequest,
    Refund,
    RefundState,
    Source,
    moved,
)
from ledger.model.payment_requests import AcceptCapture
from ledger.model.payments import Payment, PaymentStatus
from ledger.model.transfers import Entry, NotBooked, Outcome, TransferKind, reference_of
from ledger.sagas import capture_later
from ledger.store import payment_books
from ledger.store.accounts import new_account, open_accounts
from messages.contract import Envelope, Message
from messages.ledger import BalanceReleased, ReleaseBalance
from messages.saga import StepAwaited

OTHER_SAGA: Final = RetryPolicy(attempts_max=8)
"""What a reversal is about is booked by another saga: within some minutes, or a person is called."""


def merchant_step(
    name: str,
    *,
    triggers: tuple[AnySagaTrigger, ...],
    compensation: Compensation[ReleaseBalance, Books] | None = None,
    retry: RetryPolicy | None = None,
) -> Step[PaymentRequest, Books]:
    """Return a step that books what its triggers read."""
    return Step(
        name=name,
        triggers=triggers,
        load=_load,
        decide=_book,
        save=payment_books.save,
        compensation=compensation,
        lock=_lock,
        retry=retry or RetryPolicy(),
    )


def open_merchant_accounts(
    *, triggers: tuple[AnySagaTrigger, ...]
) -> Step[OpenMerchantAccounts, list[tuple[str, ...]]]:
    """Return the step that opens a merchant's accounts; those that are open already stay as they are."""
    return Step(
        name=OPEN_MERCHANT_ACCOUNTS,
        triggers=triggers,
        load=lambda _requests, _tx: [],
        decide=_open,
        save=_save_opened,
        compensation=None,
    )


def on_step_awaited(events: Sequence[StepAwaited], tx: Connection) -> None:
    """Book what gateways have accepted: the holds of payments are posted, and later captures booked beside theirs."""
    captures = [
        each for each in events if each.step == CAPTURE_OR_VOID and each.reference is not None and not each.undo
    ]
    late_captures.on_accepted([each for each in captures if each.saga_type == capture_later.NAME], tx)
    accepted = [
        AcceptCapture(saga_id=event.saga_id, step=CAPTURE_OR_VOID, message_id=event.message_id)
        for event in captures
        if event.saga_type != capture_later.NAME
    ]
    if not accepted:
        return
    books = _load(accepted, tx)
    for each in accepted:
        each.book(books, Source(saga_id=each.saga_id, step=each.step, message_id=each.message_id))
    payment_books.save(books, tx)


def _load(requests: Sequence[PaymentRequest], tx: Connection) -> Books:
    return payment_books.load([each.needs() for each in requests], tx, now=utc_now())


def _book(request: PaymentRequest, books: Books, envelope: Envelope) -> Outcome:
    books.loaded.booked_at = max(books.loaded.booked_at, envelope["occurred_at"])
    return request.book(books, Source(saga_id=request.saga_id, step=request.step, message_id=request.message_id))


def _lock(wanted: Sequence[PaymentRequest | Message], tx: Connection) -> None:
    needs = [_needed_to_undo(each) if isinstance(each, Message) else each.needs() for each in wanted]
    payment_books.load(needs, tx, now=utc_now())


def _needed_to_undo(command: Message) -> Needs:
    """Return what a hold's release needs: the hold, and what a gateway's acceptance has posted of it."""
    hold = reference_of(command.saga_id, RESERVE_BALANCE)
    accepted = reference_of(command.saga_id, CAPTURE_OR_VOID)
    return Needs(own=(f"{hold}:undo", accepted, f"{accepted}:undo"), named=(hold,))


def _load_undo(commands: Sequence[Message], tx: Connection) -> Books:
    needs = [_needed_to_undo(each) for each in commands]
    return payment_books.load(needs, tx, now=utc_now(), refund_sagas=[each.saga_id for each in commands])


def _release(command: ReleaseBalance, is_due: bool, books: Books, envelope: Envelope) -> BalanceReleased:
    """Release what is held for a payment or a refund."""
    if is_due:
        _undo(command, books, envelope)
    return BalanceReleased(**envelope, step=command.step, undone=is_due)


def _undo(command: Message, books: Books, envelope: Envelope) -> None:
    books.loaded.booked_at = max(books.loaded.booked_at, envelope["occurred_at"])
    source = Source(saga_id=command.saga_id, step=RESERVE_BALANCE, message_id=command.message_id)
    hold = books.known(source.reference)
    payment = None if hold is None or hold.payment is None else books.payment(hold.payment.payment_id)
    if payment is None:
        raise NotBooked(f"{source.reference} is done, and holds nothing for a payment; see who changed the ledger.")
    refund = next((each for each in books.refunds.values() if each.saga_id == source.saga_id), None)
    if refund is None:
        _fail_payment(books, source, payment)
    else:
        _release_refund(books, source, payment, refund)


def _fail_payment(books: Books, source: Source, payment: Payment) -> None:
    """Undo what stands of a payment: its hold, or the capture that its gateway accepted and then did not make."""
    failed = moved(payment, PaymentStatus.FAILED)
    accepted = source.of(CAPTURE_OR_VOID)
    resolved_by = books.resolved_by(source.reference)
    if resolved_by is None:
        books.book(source, kind=TransferKind.VOID, of=source.reference, change=failed, is_undo=True)
        return
    posted = books.known(accepted.reference)
    if posted is None or resolved_by != accepted.reference:
        raise NotBooked(f"Hold {source.reference} is resolved by {resolved_by}; see why its saga is compensated.")
    entries = tuple(Entry(each.account, -each.amount_minor, each.currency) for each in posted.entries)
    books.book(
        accepted, kind=TransferKind.CORRECTION, of=accepted.reference, entries=entries, change=failed, is_undo=True
    )


def _release_refund(books: Books, source: Source, payment: Payment, refund: Refund) -> None:
    """Void the hold of a refund; its amount may be refunded again."""
    assert payment.amounts is not None, "a payment of a merchant has amounts"
    left = replace(payment.amounts, refunding_minor=payment.amounts.refunding_minor - refund.amount_minor)
    books.put_refund(replace(refund, state=RefundState.RELEASED))
    change = moved(payment, payment.status, left)
    books.book(source, kind=TransferKind.VOID, of=source.reference, change=change, is_undo=True)


def _open(request: OpenMerchantAccounts, opened: list[tuple[str, ...]], _envelope: Envelope) -> int:
    paths = accounts_of(request.merchant_id, request.currencies)
    opened.append(paths)
    return len(paths)


def _save_opened(opened: list[tuple[str, ...]], tx: Connection) -> None:
    now = utc_now()
    open_accounts([new_account(path, at=now) for paths in opened for path in paths], tx)


RELEASE: Final = Compensation(
    on=ReleaseBalance,
    undoes=(RESERVE_BALANCE,),
    load=_load_undo,
    decide=_release,
    save=payment_books.save,
    replies=(BalanceReleased,),
    lock=_lock,
)
