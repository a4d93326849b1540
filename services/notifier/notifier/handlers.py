"""Notifier's handlers: the step that every merchant's saga ends with, and reactions to those that fail before it.

A failing event does not say what its saga was about, and may come before the event that does. So each of the two
reactions stores what it knows, and the later one of them notifies the merchant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection

from chassis.saga.steps import Besides, Handler, Reaction, Step
from messages.merchant import CaptureRequested, PaymentSubmitted, RefundRequested, VoidRequested
from messages.saga import CaptureFailed, PaymentFailed, RefundFailed, VoidFailed
from notifier.domain import NOTIFY_MERCHANT, Failure, Subject, notify, renotify
from notifier.member_handlers import MEMBER_HANDLERS
from notifier.notices import save, store_failed
from notifier.sagas import capture_later, payment, payment_reversal, refund, void_payment
from notifier.tables import load_subscriptions, record_failures, record_subjects

Failed: TypeAlias = PaymentFailed | CaptureFailed | VoidFailed | RefundFailed
TRIGGERS = (
    payment.NOTIFYING,
    capture_later.NOTIFYING,
    void_payment.NOTIFYING,
    refund.NOTIFYING,
    payment_reversal.NOTIFYING,
)
BEGINNINGS: tuple[tuple[type[Any], frozenset[tuple[str, int]], Callable[[Any], Subject]], ...] = (
    (PaymentSubmitted, payment.SAGAS, payment.subject),
    (CaptureRequested, capture_later.SAGAS, capture_later.subject),
    (VoidRequested, void_payment.SAGAS, void_payment.subject),
    (RefundRequested, refund.SAGAS, refund.subject),
)
FAILURES: tuple[tuple[type[Any], frozenset[tuple[str, int]]], ...] = (
    (PaymentFailed, payment.SAGAS),
    (CaptureFailed, capture_later.SAGAS),
    (VoidFailed, void_payment.SAGAS),
    (RefundFailed, refund.SAGAS),
)


def _on_begun(subject: Callable[[Any], Subject]) -> Callable[[Sequence[Any], Connection], Besides]:
    def apply(events: Sequence[Any], tx: Connection) -> Besides:
        """Record what these sagas are about."""
        return store_failed(record_subjects([subject(event) for event in events], tx), tx)

    return apply


def on_failed(events: Sequence[Failed], tx: Connection) -> Besides:
    """Record how these sagas failed."""
    return store_failed(record_failures([_failure(event) for event in events], tx), tx)


def _failure(event: Failed) -> Failure:
    return Failure(
        saga_id=event.saga_id,
        cause=event.cause,
        step=event.step,
        reason=event.reason,
        failed_at=event.occurred_at,
    )


HANDLERS: tuple[Handler, ...] = (
    Step(
        name=NOTIFY_MERCHANT,
        triggers=TRIGGERS,
        load=load_subscriptions,
        decide=notify,
        save=save,
        compensation=None,
        restore=renotify,
    ),
    *(Reaction(on=on, sagas=sagas, apply=_on_begun(subject)) for on, sagas, subject in BEGINNINGS),
    *(Reaction(on=on, sagas=sagas, apply=on_failed) for on, sagas in FAILURES),
    *MEMBER_HANDLERS,
)
