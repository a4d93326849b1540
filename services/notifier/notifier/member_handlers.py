"""Notifier's handlers for members: the step that their sagas end with, their contacts, and payouts that fail.

A failing event does not say what its saga was about, and may come before the event that does. So each of the two
reactions stores what it knows, and the later one of them stores the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from chassis.saga.steps import Handler, Reaction, Step
from chassis.saga.triggers import AnySagaTrigger
from messages.contract import Envelope
from messages.members import DividendPayoutReleased, LoanApproved, MemberRegistered, WithdrawalRequested
from messages.saga import DividendPayoutFailed, LoanDisbursementFailed, WithdrawalFailed
from notifier.domain import Failure
from notifier.model.member_texts import (
    NOTIFY_MEMBER,
    Contact,
    MemberText,
    Notice,
    NotifyMember,
    TextSubject,
    WaitingText,
    waiting,
    written,
)
from notifier.sagas import loan_repayment, member_onboarding, payouts, receipts
from notifier.store import texts
from notifier.store.texts import Registered

Failed: TypeAlias = WithdrawalFailed | LoanDisbursementFailed | DividendPayoutFailed
TRIGGERS: Final[tuple[AnySagaTrigger, ...]] = (*receipts.NOTIFYING, *payouts.NOTIFYING, loan_repayment.NOTIFYING)
BEGINNINGS: Final[tuple[tuple[type[Any], frozenset[tuple[str, int]], Callable[[Any], TextSubject]], ...]] = (
    (WithdrawalRequested, payouts.WITHDRAWALS, payouts.withdrawal_subject),
    (LoanApproved, payouts.LOANS, payouts.loan_subject),
    (DividendPayoutReleased, payouts.DIVIDENDS, payouts.dividend_subject),
)
FAILURES: Final[tuple[tuple[type[Any], frozenset[tuple[str, int]]], ...]] = (
    (WithdrawalFailed, payouts.WITHDRAWALS),
    (LoanDisbursementFailed, payouts.LOANS),
    (DividendPayoutFailed, payouts.DIVIDENDS),
)


@dataclass(slots=True, kw_only=True)
class PlannedTexts:
    """The contacts of a batch's members, and the texts that are stored: now, or once a registration arrives."""

    contacts: dict[str, Contact]
    texts: list[MemberText] = field(default_factory=list)
    waiting: list[WaitingText] = field(default_factory=list)

    def plan(self, notice: Notice | None) -> int:
        """Plan a notice's text, and return how many there are: none where it is not known whom it is about."""
        if notice is None:
            return 0
        contact = self.contacts.get(notice.member_id)
        if contact is None:
            self.waiting += waiting(notice)
        else:
            self.texts.append(written(notice, contact))
        return 1


def _load(requests: Sequence[NotifyMember], tx: Connection) -> PlannedTexts:
    return _planned_for([each.notice for each in requests if each.notice is not None], tx)


def _planned_for(notices: Sequence[Notice], tx: Connection) -> PlannedTexts:
    return PlannedTexts(contacts=texts.find_contacts({each.member_id for each in notices}, tx))


def _notify(request: NotifyMember, planned: PlannedTexts, _envelope: Envelope) -> int:
    return planned.plan(request.notice)


def _renotify(request: NotifyMember, planned: PlannedTexts, published: int) -> int:
    """Store the text again in a restored database, and return how many were published.

    Whether it had left is not known any more; its key is the same one.
    """
    planned.plan(request.notice)
    return published


def _save(planned: PlannedTexts, tx: Connection) -> None:
    texts.save_texts(planned.texts, tx)
    texts.save_waiting(planned.waiting, tx)


def _store(notices: Sequence[Notice], tx: Connection) -> None:
    """Store the texts of notices that no step of a saga is about."""
    planned = _planned_for(notices, tx)
    for notice in notices:
        planned.plan(notice)
    _save(planned, tx)


def _on_begun(subject: Callable[[Any], TextSubject]) -> Callable[[Sequence[Any], Connection], None]:
    def apply(events: Sequence[Any], tx: Connection) -> None:
        """Record what these sagas are about."""
        _store(texts.record_subjects([subject(event) for event in events], tx), tx)

    return apply


def on_failed(events: Sequence[Failed], tx: Connection) -> None:
    """Record how these sagas failed."""
    failures = [
        Failure(
            saga_id=event.saga_id,
            cause=event.cause,
            step=event.step,
            reason=event.reason,
            failed_at=event.occurred_at,
        )
        for event in events
    ]
    _store(texts.record_failures(failures, tx), tx)


def on_member_registered(events: Sequence[MemberRegistered], tx: Connection) -> None:
    """Record where members' texts go, and release those that wait for it."""
    registered = [
        Registered(
            member_id=event.member_id,
            phone=event.phone,
            language=event.language,
            registered_at=event.occurred_at,
        )
        for event in events
    ]
    texts.save_contacts(registered, tx)


MEMBER_HANDLERS: Final[tuple[Handler, ...]] = (
    Step(
        name=NOTIFY_MEMBER,
        triggers=TRIGGERS,
        load=_load,
        decide=_notify,
        save=_save,
        compensation=None,
        restore=_renotify,
    ),
    Reaction(on=MemberRegistered, sagas=member_onboarding.SAGAS, apply=on_member_registered),
    *(Reaction(on=on, sagas=sagas, apply=_on_begun(subject)) for on, sagas, subject in BEGINNINGS),
    *(Reaction(on=on, sagas=sagas, apply=on_failed) for on, sagas in FAILURES),
)
