"""The tables of merchants' payments, and every statement on them; each takes a whole batch, in one order everywhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, DateTime, Index, MetaData, Row, Table, Text, func

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from messages.payment import VoidAuthorization
from payment.merchants.domain import (
    AuthorizeGateway,
    CaptureOrVoid,
    MerchantPayment,
    MerchantPayments,
    MerchantPaymentState,
    MerchantRefund,
    RefundGateway,
    RefundState,
    refund_of,
    requested,
)

SENDS_UNANSWERED_MAX = 4
"""So many sends of an attempt are waited for; an answer that has not come by then may never come."""


def merchant_payments_table(metadata: MetaData) -> Table:
    """Return the payments of merchants."""
    return Table(
        "merchant_payments",
        metadata,
        Column("payment_id", BigInteger, primary_key=True, autoincrement=False),
        Column("saga_id", Text, nullable=False, unique=True, comment="the saga that made the payment"),
        Column("merchant_id", Text, nullable=False),
        Column("is_live", Boolean, nullable=False),
        Column("account", Text, nullable=False, comment="at a gateway, by its name in the gateway accounts"),
        Column("currency", Text, nullable=False),
        Column("amount_minor", BigInteger, nullable=False),
        Column("reference", Text, nullable=False, comment="the merchant's own"),
        Column("payer", Text, nullable=False, comment="a keyed hash"),
        Column("capture", Text, nullable=False, comment="NOW or LATER"),
        Column("state", Text, nullable=False),
        Column("gateway", Text, nullable=False, comment="stripe or adyen; empty until it has authorized"),
        Column("gateway_payment_id", Text),
        Column("authorized_minor", BigInteger, nullable=False),
        Column("captured_minor", BigInteger, nullable=False),
        Column("refunded_minor", BigInteger, nullable=False),
        Column("expires_at", DateTime(timezone=True), comment="when the authorization ends; null: unknown"),
        Column("acting_saga_id", Text, comment="that captures or voids it, or did so last"),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index("merchant_payments_at_gateway", "account", "gateway_payment_id"),
    )


def merchant_refunds_table(metadata: MetaData) -> Table:
    """Return the refunds of merchants' payments."""
    return Table(
        "merchant_refunds",
        metadata,
        Column("refund_id", BigInteger, primary_key=True, autoincrement=False),
        Column("payment_id", BigInteger, nullable=False),
        Column("saga_id", Text, nullable=False),
        Column("currency", Text, nullable=False),
        Column("amount_minor", BigInteger, nullable=False),
        Column("state", Text, nullable=False),
        Column("gateway_refund_id", Text),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index("merchant_refunds_of_payment", "payment_id"),
    )


PAYMENT = Columns.of(merchant_payments_table(MetaData()), without=["updated_at"], sources={"state": "state.value"})
CHANGED = PAYMENT.only(
    "state",
    "gateway",
    "gateway_payment_id",
    "authorized_minor",
    "captured_minor",
    "refunded_minor",
    "expires_at",
)
REFUND = Columns.of(merchant_refunds_table(MetaData()), without=["updated_at"], sources={"state": "state.value"})
REFUND_CHANGED = REFUND.only("state", "gateway_refund_id")

FIND = Statement(f"""
    SELECT {PAYMENT.names} FROM merchant_payments
    WHERE payment_id = ANY(CAST(%(payment_ids)s AS bigint[]))
""")

FIND_BY_SAGA = Statement(f"""
    SELECT {PAYMENT.names} FROM merchant_payments
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
""")

LOCK = Statement(f"""
    SELECT {PAYMENT.names} FROM merchant_payments
    WHERE payment_id = ANY(CAST(%(payment_ids)s AS bigint[]))
    ORDER BY payment_id
    FOR UPDATE
""")

ACT = Statement("""
    UPDATE merchant_payments
    SET acting_saga_id = row.saga_id
    FROM unnest(CAST(%(payment_ids)s AS bigint[]), CAST(%(saga_ids)s AS text[])) AS row (payment_id, saga_id)
    WHERE merchant_payments.payment_id = row.payment_id
""")

ANSWERED_LATER = Statement("""
    SELECT effects.saga_id FROM attempts
    JOIN effects ON effects.saga_id = attempts.saga_id AND effects.step = attempts.step
    WHERE attempts.key = %(key)s AND attempts.provider_id IS NULL AND attempts.number = effects.attempt
        AND attempts.sends < %(sends_max)s
        AND (effects.state = 'STARTED' OR effects.state = 'UNSURE' AND NOT effects.closing)
""")

LOCK_REFUNDS = Statement(f"""
    SELECT {REFUND.names} FROM merchant_refunds
    WHERE refund_id = ANY(CAST(%(refund_ids)s AS bigint[]))
    ORDER BY refund_id
    FOR UPDATE
""")

ADD = Statement(f"""
    INSERT INTO merchant_payments ({PAYMENT.names})
    SELECT {PAYMENT.values}
    FROM {PAYMENT.rows}
    ON CONFLICT (payment_id) DO NOTHING
""")

SAVE = Statement(f"""
    INSERT INTO merchant_payments ({PAYMENT.names})
    SELECT {PAYMENT.values}
    FROM {PAYMENT.rows}
    ON CONFLICT (payment_id) DO UPDATE
    SET {CHANGED.excluded_assignments}, updated_at = now()
""")

ADD_REFUNDS = Statement(f"""
    INSERT INTO merchant_refunds ({REFUND.names})
    SELECT {REFUND.values}
    FROM {REFUND.rows}
    ON CONFLICT (refund_id) DO NOTHING
""")

SAVE_REFUNDS = Statement(f"""
    INSERT INTO merchant_refunds ({REFUND.names})
    SELECT {REFUND.values}
    FROM {REFUND.rows}
    ON CONFLICT (refund_id) DO UPDATE
    SET {REFUND_CHANGED.excluded_assignments}, updated_at = now()
""")


def add_requested(requests: Sequence[AuthorizeGateway], tx: Connection) -> None:
    """Store the payments whose authorization is requested now: a webhook may come before the gateway's answer."""
    rows = sorted((requested(each) for each in requests), key=lambda each: each.payment_id)
    ADD.run(tx, PAYMENT.parameters(rows))


def begin_acts(requests: Sequence[CaptureOrVoid], tx: Connection) -> None:
    """Record which sagas capture or void these payments now."""
    ordered = sorted(requests, key=lambda each: each.payment_id)
    values = {"payment_ids": [each.payment_id for each in ordered], "saga_ids": [each.saga_id for each in ordered]}
    ACT.run(tx, values)


def add_requested_refunds(requests: Sequence[RefundGateway], tx: Connection) -> None:
    """Store the refunds that are requested now."""
    rows = sorted((refund_of(each) for each in requests), key=lambda each: each.refund_id)
    ADD_REFUNDS.run(tx, REFUND.parameters(rows))


def find_payments(tx: Connection, payment_ids: Collection[int]) -> MerchantPayments:
    """Return payments by their numbers, unlocked."""
    return _payments(FIND.rows(tx, {"payment_ids": sorted(payment_ids)}))


def find_payments_of_sagas(tx: Connection, saga_ids: Collection[str]) -> MerchantPayments:
    """Return payments by the sagas that made them, unlocked."""
    return _payments(FIND_BY_SAGA.rows(tx, {"saga_ids": sorted(saga_ids)}))


def is_answered_later(tx: Connection, key: str) -> bool:
    """Return whether the attempt with this key has no answer yet, and gets one: its call is under way, or is repeated.

    Until then the gateway's own id of it is not known, and what names another id may be about another request.
    """
    return bool(ANSWERED_LATER.rows(tx, {"key": key, "sends_max": SENDS_UNANSWERED_MAX}))


def lock_payments(tx: Connection, payment_ids: Collection[int]) -> MerchantPayments:
    """Lock payments by their numbers."""
    return _payments(LOCK.rows(tx, {"payment_ids": sorted(payment_ids)}))


def load_payments(requests: Sequence[AuthorizeGateway | CaptureOrVoid], tx: Connection) -> MerchantPayments:
    """Lock the payments of these requests."""
    return lock_payments(tx, {each.payment_id for each in requests})


def load_refunds(requests: Sequence[RefundGateway], tx: Connection) -> MerchantPayments:
    """Lock the payments of these refunds, and the refunds."""
    payments = lock_payments(tx, {each.payment_id for each in requests})
    lock_refunds(tx, payments, {each.refund_id for each in requests})
    return payments


def lock_refunds(tx: Connection, payments: MerchantPayments, refund_ids: Collection[int]) -> None:
    """Lock these refunds, after their payments."""
    for row in LOCK_REFUNDS.rows(tx, {"refund_ids": sorted(refund_ids)}):
        columns = row._asdict()
        refund = MerchantRefund(**{**columns, "state": RefundState(columns["state"])})
        payments.refunds[refund.refund_id] = refund


def load_voided(commands: Sequence[VoidAuthorization], tx: Connection) -> MerchantPayments:
    """Lock the payments that the sagas of these commands made."""
    return lock_payments(tx, find_payments_of_sagas(tx, {each.saga_id for each in commands}).found)


def save_payments(touched: MerchantPayments, tx: Connection) -> None:
    """Save the payments and refunds of a batch, in one statement each."""
    if touched.changed:
        SAVE.run(tx, PAYMENT.parameters([touched.changed[each] for each in sorted(touched.changed)]))
    if touched.refunds:
        SAVE_REFUNDS.run(tx, REFUND.parameters([touched.refunds[each] for each in sorted(touched.refunds)]))


def _payments(rows: Sequence[Row[Any]]) -> MerchantPayments:
    payments = MerchantPayments()
    for row in rows:
        columns = row._asdict()
        payment = MerchantPayment(**{**columns, "state": MerchantPaymentState(columns["state"])})
        payments.found[payment.payment_id] = payment
        payments.by_saga[payment.saga_id] = payment.payment_id
    return payments
