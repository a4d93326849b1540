"""Reports of gateways are decided about, and what they took back is published, in one transaction with its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import Connection

from chassis.postgres.statement import Statement
from chassis.process.background import Task
from chassis.saga import evidence, outbox
from chassis.saga.attempts import Outcome
from chassis.saga.evidence import Claim, Received, Source
from chassis.saga.outbox import OutboxRow
from chassis.saga.steps import Handler, Reaction
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id, headers, new_traceparent
from messages.contract import name_of
from messages.payment import ReversalReported
from messages.saga import ReversalCompleted, ReversalFailed
from payment.gateways.notices import Kind
from payment.gateways.port import Refused, provider_id
from payment.merchants.domain import MerchantPayment, MerchantPayments, MerchantRefund
from payment.merchants.notices_table import (
    DECIDED_MAX,
    NoticeFate,
    Reversal,
    StoredReport,
    add_reversal,
    body_of,
    decide,
    end_reversals,
    has_succeeded_again,
    lock_waiting,
)
from payment.merchants.reports import DISPUTES, Decided, decided, payment_of, reversed_minor
from payment.merchants.tables import lock_payments, lock_refunds, save_payments
from payment.sagas import payment_reversal

EVENTS: Final = "payment.events"
SOURCE: Final = "payment"
PARTITION: Final = 0
"""The worker that owns it publishes the row, as one that was left over, within a quarter of a minute."""
EVERY_S: Final = 1.0
LOCK: Final = 0x70617967_00020000

PAYMENT_IDS = Statement("""
    SELECT payment_id FROM merchant_payments
    WHERE (account, gateway_payment_id) IN (
        SELECT * FROM unnest(CAST(%(accounts)s AS text[]), CAST(%(gateway_payment_ids)s AS text[]))
    )
""")

REFUND_IDS = Statement("""
    SELECT refund_id, payment_id, gateway_refund_id, saga_id FROM merchant_refunds
    WHERE payment_id = ANY(CAST(%(payment_ids)s AS bigint[]))
""")

ACTING = Statement("""
    SELECT saga_id FROM effects
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND step = 'capture_or_void'
        AND state IN ('STARTED', 'SENT', 'UNSURE', 'PAUSED')
""")

log = structlog.get_logger()


def on_reversal_reported(events: Sequence[ReversalReported], tx: Connection) -> None:
    """Record reversals that a restored database lacks; any other one has them already."""
    for event in sorted(events, key=lambda each: each.reversal_id):
        add_reversal(tx, _reversal(event, notice_id=""))


def on_reversal_ended(events: Sequence[ReversalCompleted | ReversalFailed], tx: Connection) -> None:
    """Record that the sagas of these reversals have ended."""
    end_reversals(tx, [(event.saga_id, event.occurred_at) for event in events])


REACTIONS: Final[tuple[Handler, ...]] = (
    Reaction(on=ReversalReported, sagas=payment_reversal.SAGAS, apply=on_reversal_reported),
    Reaction(on=ReversalCompleted, sagas=payment_reversal.SAGAS, apply=on_reversal_ended),
    Reaction(on=ReversalFailed, sagas=payment_reversal.SAGAS, apply=on_reversal_ended),
)


def tasks(codec: Codec, clock: Callable[[], datetime]) -> tuple[Task, ...]:
    """Return the task that decides about reports."""
    run = lambda tx: report(tx, codec, now=clock())  # noqa: E731 — a task is one callable, and has no other state
    return (Task(name="report reversals", run=run, every_s=EVERY_S, lock=LOCK),)


def report(tx: Connection, codec: Codec, *, now: datetime) -> bool:
    """Decide about the reports that are due, and return whether there may be more."""
    reports = lock_waiting(tx, now=now)
    if not reports:
        return False
    payments = _payments_of(reports, tx)
    acting = _acting(payments, tx)
    fates = [(each, _decide(each, payments, acting, tx, codec, now)) for each in reports]
    save_payments(payments, tx)
    decide(tx, fates, now=now)
    return len(reports) == DECIDED_MAX


def _decide(
    report: StoredReport, payments: MerchantPayments, acting: set[str], tx: Connection, codec: Codec, now: datetime
) -> NoticeFate:
    known = {number: payments.of(number) for number in payments.found}
    payment = payment_of(report, known)
    refund = None if payment is None else _refund_of(report, payment, payments.refunds)
    is_acting = payment is not None and payment.acting_saga_id in acting
    follows = decided(report, payment, refund, is_acting=is_acting, now=now)
    if follows.fate in (NoticeFate.REPORTED, NoticeFate.NEEDLESS) and _is_overtaken(report, tx):
        follows = Decided(fate=NoticeFate.STRANGE)
    if follows.fate is NoticeFate.EVIDENCE:
        _store_evidence(report, tx, now)
    if follows.fate is NoticeFate.STRANGE:
        log.error("A gateway reports what does not fit its payment; a person decides.", notice=report.id)
    if follows.fate is not NoticeFate.REPORTED or follows.payment is None:
        return follows.fate
    return _publish(report, follows.payment, follows.refund, payments, tx, codec, now)


def _is_overtaken(report: StoredReport, tx: Connection) -> bool:
    """Return whether a capture's failure is read after a second success of it: which one is true, a person decides.

    It may be a second failure as well, after a person has booked the second success.
    """
    reported = report.reported
    is_failure = reported.kind is Kind.CAPTURE_FAILED
    return is_failure and has_succeeded_again(tx, report.account, reported.gateway_reference)


def _publish(
    report: StoredReport,
    payment: MerchantPayment,
    refund: MerchantRefund | None,
    payments: MerchantPayments,
    tx: Connection,
    codec: Codec,
    now: datetime,
) -> NoticeFate:
    """Store a reversal and publish it; what was reported before changes nothing."""
    event = _event(report, payment, refund, now)
    if not add_reversal(tx, _reversal(event, notice_id=report.id)):
        # Several events report a dispute. A capture or a refund of one id fails once.
        return NoticeFate.NEEDLESS if report.reported.kind in DISPUTES else NoticeFate.STRANGE
    payments.change(payment)
    if refund is not None:
        payments.refunds[refund.refund_id] = refund
    outbox.save(tx, [_row_of(event, codec)])
    return NoticeFate.REPORTED


def _event(
    report: StoredReport, payment: MerchantPayment, refund: MerchantRefund | None, now: datetime
) -> ReversalReported:
    reported = report.reported
    reversal_id = derived_id(report.account, reported.kind, reported.gateway_reference)
    return ReversalReported(
        message_id=derived_id(reversal_id, "reported"),
        saga_id=reversal_id,
        saga_type=payment_reversal.NAME,
        saga_version=payment_reversal.VERSION,
        causation_id=None,
        occurred_at=now,
        reversal_id=reversal_id,
        payment_id=payment.payment_id,
        merchant_id=payment.merchant_id,
        is_live=payment.is_live,
        currency=payment.currency,
        amount_minor=payment.amount_minor,
        reference=payment.reference,
        gateway_account=payment.account,
        payment_saga_id=payment.saga_id,
        kind=reported.kind.value,
        reversed_minor=reversed_minor(report, payment),
        refund_id=None if refund is None else refund.refund_id,
        gateway=payment.gateway,
        gateway_reference=reported.gateway_reference,
        reason=reported.reason,
    )


def _reversal(event: ReversalReported, *, notice_id: str) -> Reversal:
    return Reversal(
        reversal_id=event.reversal_id,
        account=event.gateway_account,
        kind=Kind(event.kind),
        gateway_reference=event.gateway_reference,
        payment_id=event.payment_id,
        refund_id=event.refund_id,
        reversed_minor=event.reversed_minor,
        currency=event.currency,
        reason=event.reason,
        notice_id=notice_id,
        reported_at=event.occurred_at,
    )


def _store_evidence(report: StoredReport, tx: Connection, now: datetime) -> None:
    """Store a failure as the outcome of its attempt, whose success has never come."""
    kept, body = body_of(tx, report.id)
    reported = report.reported
    kind = "capture" if reported.kind is Kind.CAPTURE_FAILED else "refund"
    claim = Claim(
        outcome=Outcome.REFUSED,
        key=reported.attempt_key,
        provider_id=provider_id(report.account, kind, reported.gateway_reference),
        reference=reported.gateway_reference,
        detail=Refused(gateway="", reason=reported.reason).detail,
    )
    received = Received(
        id=report.id,
        provider=report.account,
        source=Source.CALLBACK,
        received_at=now,
        headers=kept,
        body=body,
        claim=claim,
    )
    evidence.store(tx, [received])


def _payments_of(reports: Sequence[StoredReport], tx: Connection) -> MerchantPayments:
    """Lock the payments that these reports are about, and their refunds."""
    named = [each for each in reports if each.reported.gateway_payment_id is not None]
    values = {
        "accounts": [each.account for each in named],
        "gateway_payment_ids": [each.reported.gateway_payment_id for each in named],
    }
    wanted = {row.payment_id for row in PAYMENT_IDS.rows(tx, values)}
    wanted |= {each.reported.payment_id for each in reports if each.reported.payment_id is not None}
    payments = lock_payments(tx, wanted)
    rows = REFUND_IDS.rows(tx, {"payment_ids": sorted(payments.found)})
    lock_refunds(tx, payments, {row.refund_id for row in rows})
    return payments


def _refund_of(
    report: StoredReport, payment: MerchantPayment, refunds: Mapping[int, MerchantRefund]
) -> MerchantRefund | None:
    """Return the refund that a report is about: by the gateway's id of it, else by the saga in our key."""
    if report.reported.kind is not Kind.REFUND_FAILED:
        return None
    own = [each for each in refunds.values() if each.payment_id == payment.payment_id]
    saga_id = (report.reported.attempt_key or "").partition(":")[0]
    by_id = (each for each in own if each.gateway_refund_id == report.reported.gateway_reference)
    return next(by_id, None) or next((each for each in own if each.saga_id == saga_id), None)


def _acting(payments: MerchantPayments, tx: Connection) -> set[str]:
    """Return the sagas that capture or void these payments right now."""
    sagas = sorted({each.acting_saga_id for each in payments.found.values() if each.acting_saga_id})
    return {row.saga_id for row in ACTING.rows(tx, {"saga_ids": sagas})} if sagas else set()


def _row_of(event: ReversalReported, codec: Codec) -> OutboxRow:
    return OutboxRow(
        id=event.message_id,
        topic=EVENTS,
        saga_id=event.saga_id,
        type=name_of(type(event)),
        payload=codec.encode(EVENTS, event),
        headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
        partition=PARTITION,
    )
