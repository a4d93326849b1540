"""Notifier's handlers: the step that every merchant's saga ends with, and reactions to those that fail before it.

A failing event does not say what its saga was about, and may come before the event that does. So each of the two
reactions stores what it knows, and the later one of them notifies the merchant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection

from chassis.saga.steps import Handler, Reaction, Step
from chassis.wire.codec import Codec
from messages.merchant import CaptureRequested, PaymentSubmitted, RefundRequested, VoidRequested
from messages.saga import CaptureFailed, PaymentFailed, RefundFailed, VoidFailed
from notifier.domain import NOTIFY_MERCHANT, Failure, Subject, notify, renotify
from notifier.notices import Save, saving, store_failed
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


def handlers(codec: Codec) -> tuple[Handler, ...]:
    """Return the handlers, which encode with ``codec`` what they publish of an event."""
    save = saving(codec)
    step = Step(
        name=NOTIFY_MERCHANT,
        triggers=TRIGGERS,
        load=load_subscriptions,
        decide=notify,
        save=save,
        compensation=None,
        restore=renotify,
    )
    begun = [Reaction(on=on, sagas=sagas, apply=_on_begun(subject, save)) for on, sagas, subject in BEGINNINGS]
    ended = [Reaction(on=on, sagas=sagas, apply=_on_failed(save)) for on, sagas in FAILURES]
    return (step, *begun, *ended)


def _on_begun(subject: Callable[[Any], Subject], save: Save) -> Callable[[Sequence[Any], Connection], None]:
    def apply(events: Sequence[Any], tx: Connection) -> None:
        """Record what these sagas are about."""
        store_failed(record_subjects([subject(event) for event in events], tx), save, tx)

    return apply


def _on_failed(save: Save) -> Callable[[Sequence[Failed], Connection], None]:
    def apply(events: Sequence[Failed], tx: Connection) -> None:
        """Record how these sagas failed."""
        store_failed(record_failures([_failure(event) for event in events], tx), save, tx)

    return apply


def _failure(event: Failed) -> Failure:
    return Failure(
        saga_id=event.saga_id,
        cause=event.cause,
        step=event.step,
        reason=event.reason,
        failed_at=event.occurred_at,
    )
