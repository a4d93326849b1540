"""Negative controls of merchants' payments: the real code without one of its rules, which a schedule breaks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from chassis.http.downstream import Unavailable
from chassis.postgres.statement import Statement
from chassis.saga.answers import Accepted, SendAnswer
from chassis.saga.evidence import Received
from chassis.wire import envelope
from ledger.model.payment_books import Books, Source, moved
from ledger.model.payment_requests import CommitVoid
from ledger.model.payments import PaymentAmounts, PaymentStatus
from ledger.model.transfers import Outcome
from merchant import operations
from merchant import tables as merchants_tables
from notifier import handlers as notifiers_handlers
from payment.gateways.notices import Notice
from payment.gateways.port import Capture, CaptureLater, Refused, Requested, Taken, gateway_id, succeeded
from payment.gateways.registry import Gateways
from payment.merchants import callbacks, notices_table, reporting, reports
from payment.merchants.notices_table import NoticeFate, StoredReport
from payment.merchants.reports import Decided

Replacement: TypeAlias = tuple[Any, str, Any]
UNLIMITED: Final = 10**12
_numbers = itertools.count()
_send, _decided, _add_notice, _derived_id = (
    Gateways.send,
    reports.decided,
    notices_table.add_notice,
    envelope.derived_id,
)
UNLOCKED = Statement(f"""
    SELECT {merchants_tables.PAYMENT_COLUMNS.names} FROM payments
    WHERE payment_id IN (
        SELECT unnest(CAST(%(ids)s AS bigint[]))
        UNION SELECT payment_id FROM payments WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
        UNION SELECT payment_id FROM operations WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
    )
    ORDER BY payment_id
""")  # noqa: S608 - names of our own


def taking_an_error_for_a_decline(gateways: Gateways, request: Requested | CaptureLater, key: str) -> SendAnswer:
    """Take a call without an answer for a refusal."""
    try:
        return _send(gateways, request, key)
    except Unavailable:
        return Refused(gateway="", reason="gateway_error").proven()


def taking_received_for_captured(gateways: Gateways, request: Requested | CaptureLater, key: str) -> SendAnswer:
    """Take a capture that is received for one that is proven."""
    answer = _send(gateways, request, key)
    if not isinstance(request, Capture) or not isinstance(answer, Accepted) or answer.provider_id is None:
        return answer
    taken = Taken(
        gateway="adyen",
        gateway_payment_id=request.gateway_payment_id,
        amount_minor=request.amount_minor,
        currency=request.currency,
    )
    return succeeded(taken, provider_id=answer.provider_id, reference=gateway_id(answer.provider_id) or "")


def sending_under_one_key(gateways: Gateways, request: Requested | CaptureLater, key: str) -> SendAnswer:
    """Send whatever concerns a payment under the payment's number."""
    number = "" if isinstance(request, CaptureLater) else str(request.payment_id)
    return _send(gateways, request, number or key)


def keeping_the_hold(request: CommitVoid, books: Books, source: Source) -> Outcome:
    """Note that a payment is voided, and release nothing."""
    payment, _ = request.owned(books)
    return books.try_book(source, change=moved(payment, PaymentStatus.VOIDED))


def dropping_early_reports(report: StoredReport, *given: Any, **named: Any) -> Decided:
    """Ignore a report that comes before what it is about is known."""
    found = _decided(report, *given, **named)
    return replace(found, fate=NoticeFate.IGNORED) if found.fate is NoticeFate.WAITING else found


def keeping_every_delivery(tx: Connection, received: Received, notice: Notice, fate: NoticeFate) -> bool:
    """Keep each delivery of a webhook as another one."""
    another = replace(notice, dedupe=f"{notice.dedupe} {next(_numbers)}")
    return _add_notice(tx, received, another, fate)


def reversing_anew(*texts: str) -> str:
    """Give each report a reversal of its own."""
    return _derived_id(*texts, str(next(_numbers)))


OF_PAYMENTS: Mapping[str, tuple[Replacement, ...]] = {
    "refund-limit-unlocked": ((merchants_tables, "LOCK_PAYMENTS", UNLOCKED),),
    "refund-unlimited": (
        (operations, "check_refund", lambda _payment, _amount_minor: None),
        (PaymentAmounts, "refundable_minor", UNLIMITED),
    ),
    "error-is-decline": ((Gateways, "send", taking_an_error_for_a_decline),),
    "received-is-captured": ((Gateways, "send", taking_received_for_captured),),
    "one-key-for-a-payment": ((Gateways, "send", sending_under_one_key),),
    "hold-kept-on-void": ((CommitVoid, "book", keeping_the_hold),),
    "early-report-dropped": ((reporting, "decided", dropping_early_reports),),
    "reversed-twice": (
        (callbacks, "add_notice", keeping_every_delivery),
        (reporting, "derived_id", reversing_anew),
    ),
    "failure-untold": ((notifiers_handlers, "store_failed", lambda _found, _tx: None),),
}
"""By name: modules or classes, their attributes, and what stands in their stead."""
