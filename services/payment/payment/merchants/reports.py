"""What follows from what a gateway reports unasked. Pure.

A report waits while its payment is not known, or while a request of ours is under way that it may be the outcome of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from payment.gateways.notices import Kind
from payment.merchants.domain import (
    CAPTURE_LATER,
    MerchantPayment,
    MerchantPaymentState,
    MerchantRefund,
    RefundState,
)
from payment.merchants.notices_table import NoticeFate, StoredReport

EVIDENCE_AFTER: Final = timedelta(minutes=10)
"""A failure that is reported before its success is its outcome, where the success has not come by then."""
DISPUTES = frozenset({Kind.DISPUTED, Kind.DISPUTE_WON, Kind.DISPUTE_LOST})
State = MerchantPaymentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What follows from a report: the rows as they are after it. ``refund_id`` is of a refund that failed."""

    fate: NoticeFate
    payment: MerchantPayment | None = None
    refund: MerchantRefund | None = None


def decided(
    report: StoredReport,
    payment: MerchantPayment | None,
    refund: MerchantRefund | None,
    *,
    is_acting: bool,
    now: datetime,
) -> Decided:
    """Decide about a report. ``is_acting``: a capture or a void of the payment is under way."""
    if payment is None:
        return Decided(fate=NoticeFate.WAITING)
    reported = report.reported
    is_payments = (
        reported.gateway_payment_id in (None, payment.gateway_payment_id) or payment.gateway_payment_id is None
    )
    if reported.currency != payment.currency or reported.amount_minor > payment.amount_minor or not is_payments:
        return Decided(fate=NoticeFate.STRANGE)
    if reported.kind is Kind.REFUND_FAILED:
        return _refund_failed(report, payment, refund, now)
    if is_acting or payment.state is State.REQUESTED:
        return (
            _outcome_or_wait(report, now) if reported.kind is Kind.CAPTURE_FAILED else Decided(fate=NoticeFate.WAITING)
        )
    if reported.kind in DISPUTES:
        return Decided(fate=NoticeFate.REPORTED if payment.captured_minor else NoticeFate.STRANGE, payment=payment)
    if reported.kind is Kind.CAPTURE_FAILED:
        return _capture_failed(report, payment)
    return _expired(payment)


def _capture_failed(report: StoredReport, payment: MerchantPayment) -> Decided:
    if payment.state is not State.CAPTURED:
        return Decided(fate=NoticeFate.NEEDLESS)
    if report.reported.amount_minor != payment.captured_minor:
        return Decided(fate=NoticeFate.STRANGE)
    return Decided(fate=NoticeFate.REPORTED, payment=replace(payment, state=State.CAPTURE_FAILED))


def _expired(payment: MerchantPayment) -> Decided:
    """Report the end of an authorization that is not captured; a capture that is to follow is refused for that."""
    if payment.state is not State.AUTHORIZED:
        return Decided(fate=NoticeFate.NEEDLESS)
    if payment.capture != CAPTURE_LATER:
        return Decided(fate=NoticeFate.WAITING)
    return Decided(fate=NoticeFate.REPORTED, payment=replace(payment, state=State.EXPIRED))


def _refund_failed(
    report: StoredReport, payment: MerchantPayment, refund: MerchantRefund | None, now: datetime
) -> Decided:
    if refund is None or refund.state is RefundState.REQUESTED:
        return _outcome_or_wait(report, now)
    if refund.state is not RefundState.REFUNDED:
        return Decided(fate=NoticeFate.NEEDLESS)
    if report.reported.amount_minor != refund.amount_minor:
        return Decided(fate=NoticeFate.STRANGE)
    return Decided(
        fate=NoticeFate.REPORTED,
        payment=replace(payment, refunded_minor=payment.refunded_minor - refund.amount_minor),
        refund=replace(refund, state=RefundState.FAILED),
    )


def _outcome_or_wait(report: StoredReport, now: datetime) -> Decided:
    is_outcome = now >= report.received_at + EVIDENCE_AFTER
    return Decided(fate=NoticeFate.EVIDENCE if is_outcome else NoticeFate.WAITING)


def reversed_minor(report: StoredReport, payment: MerchantPayment) -> int:
    """Return the amount that a report is about. An authorization expires as a whole."""
    return (
        payment.authorized_minor if report.reported.kind is Kind.AUTHORIZATION_EXPIRED else report.reported.amount_minor
    )


def payment_of(report: StoredReport, payments: Mapping[int, MerchantPayment]) -> MerchantPayment | None:
    """Return the payment that a report is about: by the gateway's id of it, else by our number."""
    at_account = [each for each in payments.values() if each.account == report.account]
    found = report.reported.gateway_payment_id
    by_id = (each for each in at_account if found is not None and each.gateway_payment_id == found)
    by_number = (each for each in at_account if each.payment_id == report.reported.payment_id)
    return next(by_id, None) or next(by_number, None)
