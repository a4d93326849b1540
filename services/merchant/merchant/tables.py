"""Merchant's tables, and the statements on payments and idempotency keys; each takes a whole batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    Row,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from chassis.values.json_text import compact
from merchant.domain import Capture, Kind, Operation, OperationState, Payment
from merchant.key_tables import UsedKey

metadata = service_metadata()
merchants = Table(
    "merchants",
    metadata,
    Column("merchant_id", Text, primary_key=True),
    Column("saga_id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("currencies", JSONB, nullable=False),
    Column("basis_points", Integer, nullable=False),
    Column("fixed_minor", JSONB, nullable=False, comment="the fixed part of the fee, by currency"),
    Column("amount_max_minor", JSONB, nullable=False, comment="the most that one payment may be, by currency"),
    Column("state", Text, nullable=False),
    Column("failure_reason", Text),
    Column("registered_at", DateTime(timezone=True), nullable=False),
    Column("onboarded_at", DateTime(timezone=True)),
    Column("closed_at", DateTime(timezone=True)),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the key, which is not stored"),
    Column("hint", Text, nullable=False, comment="the last letters of the key"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), comment="set when another key replaces it"),
    Column("revoked_at", DateTime(timezone=True)),
    Index("api_keys_by_merchant", "merchant_id"),
)
payments = Table(
    "payments",
    metadata,
    Column("payment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("saga_id", Text, nullable=False, unique=True),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("amount_minor", BigInteger, CheckConstraint("amount_minor > 0"), nullable=False),
    Column("currency", Text, nullable=False),
    Column("capture", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("method_type", Text, nullable=False),
    Column("holder_name", Text),
    Column("gateway_account", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("basis_points", Integer, nullable=False, comment="the price when it was accepted, also for later captures"),
    Column("fixed_minor", BigInteger, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("captured_minor", BigInteger, nullable=False),
    Column("gateway_payment_id", Text),
    Column("expires_at", DateTime(timezone=True)),
    Column("failure_cause", Text),
    Column("failure_step", Text),
    Column("failure_reason", Text),
    Column("disputed_minor", BigInteger, nullable=False),
    Column("dispute_won_minor", BigInteger, nullable=False),
    Column("dispute_lost_minor", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("cancellation_requested_at", DateTime(timezone=True)),
    Column("cancellation_reason", Text, comment="the merchant's words; may be empty"),
    Column("late_void_id", BigInteger, comment="the operation that follows where the cancellation is late"),
    Column("authorized_at", DateTime(timezone=True)),
    Column("captured_at", DateTime(timezone=True)),
    Column("committed_at", DateTime(timezone=True)),
    Column("voided_at", DateTime(timezone=True)),
    Column("failed_at", DateTime(timezone=True)),
    Column("expired_at", DateTime(timezone=True)),
    Column("capture_failed_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),
    Index("payments_of_merchant", "merchant_id", "is_live", text("payment_id DESC")),
    Index("payments_by_reference", "merchant_id", "is_live", "reference"),
    Index("payments_open", "created_at", postgresql_where=text("committed_at IS NULL AND failed_at IS NULL")),
)
operations = Table(
    "operations",
    metadata,
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("payment_id", BigInteger, nullable=False),
    Column("saga_id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("amount_minor", BigInteger, CheckConstraint("amount_minor > 0"), nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("reason", Text, nullable=False, comment="the merchant's words; may be empty"),
    Column("failure_reason", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("decided_at", DateTime(timezone=True)),
    Index("operations_of_payment", "payment_id", "operation_id"),
    Index("operations_open", "kind", "created_at", postgresql_where=text("decided_at IS NULL")),
)
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of merchant, mode, route and key"),
    Column("fingerprint", LargeBinary, nullable=False, comment="of the request's meaning; begins with its rule"),
    Column("payment_id", BigInteger, nullable=False),
    Column("operation_id", BigInteger, comment="null: the request was for the payment itself"),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
worker_slots = Table(
    "worker_slots",
    metadata,
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("holder", Text),
    Column("leased_until", DateTime(timezone=True), nullable=False),
    Column("last_ms", BigInteger, nullable=False, comment="the last millisecond that a lease of it may use"),
)

PaymentRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``payments``; a row of the hot path has the same attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPayment:
    """A payment to store, with the digest and the fingerprint of the request that it is for."""

    digest: bytes
    fingerprint: bytes
    payment_id: int
    saga_id: str
    merchant_id: str
    is_live: bool
    amount_minor: int
    currency: str
    capture: str
    reference: str
    metadata: Mapping[str, str]
    method_type: str
    holder_name: str | None
    gateway_account: str
    gateway: str
    basis_points: int
    fixed_minor: int
    fee_minor: int
    created_at: datetime

    @property
    def facts(self) -> Payment:
        """Its facts, of which there are none yet."""
        return Payment(
            payment_id=self.payment_id,
            saga_id=self.saga_id,
            amount_minor=self.amount_minor,
            capture=Capture(self.capture),
        )

    @property
    def used_key(self) -> UsedKey:
        """Its key, once it is stored."""
        return UsedKey(fingerprint=self.fingerprint, payment_id=self.payment_id, operation_id=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOperation:
    """A capture, a void or a refund to store."""

    operation_id: int
    payment_id: int
    saga_id: str
    kind: Kind
    amount_minor: int
    fee_minor: int
    reason: str


NEW_PAYMENTS = Columns.of(
    payments, sources={"metadata": lambda new: compact(dict(new.metadata))}
).only(
    "payment_id", "saga_id", "merchant_id", "is_live", "amount_minor", "currency", "capture", "reference", "metadata",
    "method_type", "holder_name", "gateway_account", "gateway", "basis_points", "fixed_minor", "fee_minor",
    "created_at",
)  # fmt: skip
CLAIMED_KEYS = Columns.of(idempotency_keys).only("digest", "fingerprint")
FACTS = Columns.of(payments, sources={"status": "status.value", "capture": "capture.value"}).only(
    "payment_id", "status", "captured_minor", "gateway_payment_id", "expires_at", "failure_cause",
    "failure_step", "failure_reason", "disputed_minor", "dispute_won_minor", "dispute_lost_minor", "authorized_at",
    "captured_at", "committed_at", "voided_at", "failed_at", "expired_at", "capture_failed_at", "completed_at",
)  # fmt: skip
STATED = Columns.of(operations, sources={"state": "state.value"}).only(
    "operation_id", "state", "failure_reason", "decided_at"
)
PAYMENT_COLUMNS = Columns.of(payments)
OPERATION_COLUMNS = Columns.of(operations)

INSERT_PAYMENTS = Statement(f"""
    WITH row AS (
        SELECT * FROM {(CLAIMED_KEYS + NEW_PAYMENTS).rows}
    ), claimed AS (
        INSERT INTO idempotency_keys ({CLAIMED_KEYS.names}, payment_id, created_at)
        SELECT {CLAIMED_KEYS.values}, payment_id, created_at FROM row
    )
    INSERT INTO payments ({NEW_PAYMENTS.names}, status, captured_minor, disputed_minor, dispute_won_minor,
                          dispute_lost_minor)
    SELECT {NEW_PAYMENTS.values}, 'PENDING', 0, 0, 0, 0
    FROM row
""")

PAYMENTS = Statement(f"SELECT {PAYMENT_COLUMNS.names} FROM payments WHERE payment_id = ANY(CAST(%(ids)s AS bigint[]))")

OPERATIONS = Statement(f"""
    SELECT {OPERATION_COLUMNS.names} FROM operations WHERE payment_id = ANY(CAST(%(ids)s AS bigint[]))
    ORDER BY operation_id
""")

LOCK_PAYMENTS = Statement(f"""
    SELECT {PAYMENT_COLUMNS.names} FROM payments
    WHERE payment_id IN (
        SELECT unnest(CAST(%(ids)s AS bigint[]))
        UNION SELECT payment_id FROM payments WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
        UNION SELECT payment_id FROM operations WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
    )
    ORDER BY payment_id
    FOR UPDATE
""")

SAVE_FACTS = Statement(f"""
    UPDATE payments SET {FACTS.assignments} FROM {FACTS.rows} WHERE payments.payment_id = row.payment_id
""")

SAVE_OPERATIONS = Statement(f"""
    UPDATE operations SET {STATED.assignments} FROM {STATED.rows} WHERE operations.operation_id = row.operation_id
""")

INSERT_OPERATION = text("""
    INSERT INTO operations (operation_id, payment_id, saga_id, kind, state, amount_minor, fee_minor, reason, created_at)
    VALUES (:operation_id, :payment_id, :saga_id, :kind, 'PENDING', :amount_minor, :fee_minor, :reason, :now)
""")

REQUEST_CANCELLATION = text("""
    UPDATE payments SET cancellation_requested_at = :now, cancellation_reason = :reason, late_void_id = :late_void_id
    WHERE payment_id = :payment_id AND cancellation_requested_at IS NULL
""")

ENDED = text("""
    SELECT payment_id FROM payments
    WHERE payment_id = ANY(:ids) AND (committed_at IS NOT NULL OR failed_at IS NOT NULL)
""")

PAGE = text(f"""
    SELECT {PAYMENT_COLUMNS.names} FROM payments
    WHERE merchant_id = :merchant_id AND is_live = :is_live AND payment_id < :before
      AND (CAST(:status AS text) IS NULL OR status = :status)
      AND (CAST(:currency AS text) IS NULL OR currency = :currency)
      AND (CAST(:reference AS text) IS NULL OR reference = :reference)
      AND (CAST(:created_from AS timestamptz) IS NULL OR created_at >= :created_from)
      AND (CAST(:created_to AS timestamptz) IS NULL OR created_at < :created_to)
    ORDER BY payment_id DESC
    LIMIT :limit
""")

OVERDUE = text("""
    SELECT 'payment', count(*) FROM payments
    WHERE committed_at IS NULL AND failed_at IS NULL AND created_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'merchant_onboarding', count(*) FROM merchants
    WHERE state = 'REGISTERED' AND registered_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'capture_later', count(*) FROM operations
    WHERE kind = 'CAPTURE' AND decided_at IS NULL AND created_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'void_payment', count(*) FROM operations
    WHERE kind = 'VOID' AND decided_at IS NULL AND created_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'refund', count(*) FROM operations
    WHERE kind = 'REFUND' AND decided_at IS NULL AND created_at < now() - interval '10 minutes'
""")
"""A bank may take days for a refund: what waits for such an outcome then is known to the tracker."""


def insert_payments(tx: Connection, new: Sequence[NewPayment]) -> None:
    """Store the payments as PENDING together with their keys, in one statement."""
    if new:
        INSERT_PAYMENTS.run(tx, (CLAIMED_KEYS + NEW_PAYMENTS).parameters(new))


def load_payments(tx: Connection, ids: Collection[int]) -> list[tuple[PaymentRow, list[PaymentRow]]]:
    """Return these payments' rows, each with the rows of its operations; unknown ones are missing."""
    if not ids:
        return []
    found = PAYMENTS.submit(tx, {"ids": sorted(ids)})
    own = OPERATIONS.submit(tx, {"ids": sorted(ids)})
    return _with_operations(found.rows(), own.rows())


def lock_payments(
    tx: Connection, *, ids: Collection[int] = (), saga_ids: Collection[str] = ()
) -> list[tuple[PaymentRow, list[PaymentRow]]]:
    """Lock payments by their ids, and by the sagas of theirs or of their operations; return them as they are then."""
    rows = LOCK_PAYMENTS.rows(tx, {"ids": sorted(ids), "saga_ids": sorted(saga_ids)})
    own = OPERATIONS.rows(tx, {"ids": [row.payment_id for row in rows]}) if rows else []
    return _with_operations(rows, own)


def save_facts(tx: Connection, payments: Sequence[Payment], operations: Sequence[Operation]) -> None:
    """Store what changed, in one statement for payments and one for operations."""
    if payments:
        SAVE_FACTS.run(tx, FACTS.parameters(payments))
    if operations:
        SAVE_OPERATIONS.run(tx, STATED.parameters(operations))


def insert_operation(tx: Connection, new: NewOperation, *, now: datetime) -> None:
    """Store an operation as PENDING."""
    tx.execute(INSERT_OPERATION, {**asdict(new), "kind": new.kind.value, "now": now})


def request_cancellation(tx: Connection, payment_id: int, *, reason: str, late_void_id: int, now: datetime) -> bool:
    """Record a request to cancel a payment. Return False where one is recorded already."""
    values = {"payment_id": payment_id, "reason": reason, "late_void_id": late_void_id, "now": now}
    return tx.execute(REQUEST_CANCELLATION, values).rowcount == 1


def ended(tx: Connection, ids: Collection[int]) -> set[int]:
    """Return which of these payments have their outcome."""
    return {row.payment_id for row in tx.execute(ENDED, {"ids": list(ids)})}


def page(tx: Connection, **filters: object) -> list[tuple[PaymentRow, list[PaymentRow]]]:
    """Return a page of a merchant's payments in one mode, the newest first. A filter that is None selects all."""
    rows = tx.execute(PAGE, filters).all()
    own = OPERATIONS.rows(tx, {"ids": [row.payment_id for row in rows]}) if rows else []
    return _with_operations(rows, own)


def payment_of(row: PaymentRow, own: Sequence[PaymentRow]) -> Payment:
    """Return the facts of a row, with its operations."""
    facts = {name: getattr(row, name) for name in FACTS if name not in ("payment_id", "status")}
    return Payment(
        payment_id=row.payment_id,
        saga_id=row.saga_id,
        amount_minor=row.amount_minor,
        capture=Capture(row.capture),
        operations=tuple(
            Operation(
                operation_id=each.operation_id,
                payment_id=each.payment_id,
                saga_id=each.saga_id,
                kind=Kind(each.kind),
                state=OperationState(each.state),
                amount_minor=each.amount_minor,
                failure_reason=each.failure_reason,
                decided_at=each.decided_at,
            )
            for each in own
        ),
        **facts,
    )


def _with_operations(rows: Sequence[Any], own: Sequence[Any]) -> list[tuple[PaymentRow, list[PaymentRow]]]:
    by_payment: dict[int, list[PaymentRow]] = {}
    for each in own:
        by_payment.setdefault(each.payment_id, []).append(each)
    return [(row, by_payment.get(row.payment_id, [])) for row in rows]
