"""Risk's tables and every statement on them; each takes a whole batch. Rows are locked in one order everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    Integer,
    Row,
    Table,
    Text,
    func,
    text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from chassis.saga.triggers import StepKey
from messages.risk import WithdrawValidation
from risk.domain import (
    WINDOWS,
    BlockKind,
    Counted,
    Subject,
    SubjectKind,
    ValidatePayment,
    Validations,
    ValidationState,
    Window,
    Withdrawals,
    changes,
    counted,
    minute_of,
)
from risk.rule_sets import RuleSets

metadata = service_metadata()
validations = Table(
    "validations",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("payment_id", BigInteger, nullable=False, unique=True),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("payer", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("submitted_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=True, comment="why it was blocked"),
    Column("detail", Text, nullable=False),
    Column("score", Integer, nullable=False),
    Column("signals", ARRAY(Text), nullable=False),
    Column("rules_version", Text, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
subjects = Table(
    "subjects",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("is_live", Boolean, primary_key=True),
    comment="payers and merchants whose payments are counted; a row is the lock of its counters",
)
counters = Table(
    "counters",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("is_live", Boolean, primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("payments", BigInteger, CheckConstraint("payments >= 0"), nullable=False),
    Column("amount_minor", BigInteger, CheckConstraint("amount_minor >= 0"), nullable=False),
    Index("counters_minute", "minute"),
)
blocks = Table(
    "blocks",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("removed_by", Text, nullable=True),
    Column("removed_at", DateTime(timezone=True), nullable=True),
    Column("removal_reason", Text, nullable=True),
    Index("blocks_active", "kind", "value", unique=True, postgresql_where=text("removed_at IS NULL")),
)
rule_sets = Table(
    "rule_sets",
    metadata,
    Column("ordinal", BigInteger, Identity(always=True), primary_key=True, comment="the last one is active"),
    Column("version", Text, nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("stored_by", Text, nullable=False),
    Column("stored_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

STORED = Columns.of(
    validations,
    without=["updated_at"],
    sources={
        "saga_id": "request.saga_id", "step": "request.step", "payment_id": "request.payment_id",
        "merchant_id": "request.merchant_id", "is_live": "request.is_live", "payer": "request.payer",
        "currency": "request.currency", "amount_minor": "request.amount_minor",
        "submitted_at": "request.submitted_at", "reason": "decision.reason", "detail": "decision.detail",
        "score": "decision.score", "rules_version": "decision.rules_version",
        "signals": lambda row: _array(row.decision.signals),
    },
)  # fmt: skip
COUNTED = Columns.of(validations).only(
    "saga_id", "step", "merchant_id", "is_live", "payer", "currency", "amount_minor", "submitted_at"
)

ADD_SUBJECTS = Statement("""
    INSERT INTO subjects (kind, subject, is_live)
    SELECT kind, subject, is_live
    FROM unnest(CAST(%(kinds)s AS text[]), CAST(%(subjects)s AS text[]), CAST(%(lives)s AS boolean[]))
         AS row (kind, subject, is_live)
    ORDER BY kind, subject, is_live
    ON CONFLICT DO NOTHING
""")

LOCK_SUBJECTS = Statement("""
    SELECT kind FROM subjects
    WHERE (kind, subject, is_live) IN (
        SELECT kind, subject, is_live
        FROM unnest(CAST(%(kinds)s AS text[]), CAST(%(subjects)s AS text[]), CAST(%(lives)s AS boolean[]))
             AS row (kind, subject, is_live)
        UNION SELECT 'payer', payer, is_live FROM validations WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
        UNION SELECT 'merchant', merchant_id, is_live FROM validations
              WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])))
    ORDER BY kind, subject, is_live FOR UPDATE
""")

WINDOW_SUMS = ",".join(
    f"""
            coalesce(sum(payments) FILTER (WHERE {inside}), 0) AS payments_{name},
            coalesce(sum(amount_minor) FILTER (WHERE {inside} AND is_same), 0) AS amount_{name}"""
    for name, minutes in WINDOWS.items()
    for inside in [f"minute > row.last_minute - interval '{minutes} minutes'"]
)
READ_WINDOWS = Statement(f"""
    SELECT row.ordinal, found.*
    FROM unnest(CAST(%(kinds)s AS text[]), CAST(%(subjects)s AS text[]), CAST(%(lives)s AS boolean[]),
                CAST(%(currencies)s AS text[]), CAST(%(last_minutes)s AS timestamptz[]))
         WITH ORDINALITY AS row (kind, subject, is_live, currency, last_minute, ordinal)
    CROSS JOIN LATERAL (
        SELECT {WINDOW_SUMS}
        FROM counters, LATERAL (SELECT counters.currency = row.currency AS is_same) AS compared
        WHERE kind = row.kind AND subject = row.subject AND is_live = row.is_live
          AND minute > row.last_minute - interval '{max(WINDOWS.values())} minutes' AND minute <= row.last_minute
    ) AS found
""")
"""All windows by one scan. A merchant of every minute has 1,440 counters a day, and many payments in a batch."""

FIND_BLOCKS = Statement("""
    SELECT kind, value FROM blocks
    WHERE removed_at IS NULL AND (
        (kind = 'payer' AND value = ANY(CAST(%(payers)s AS text[])))
        OR (kind = 'merchant' AND value = ANY(CAST(%(merchant_ids)s AS text[])))
        OR kind = 'payment_method_type')
    ORDER BY kind, value
""")

STORE = Statement(f"""
    INSERT INTO validations ({STORED.names})
    SELECT {STORED.values}
    FROM {STORED.rows}
""")

COUNT = Statement("""
    INSERT INTO counters (kind, subject, is_live, minute, currency, payments, amount_minor)
    SELECT kind, subject, is_live, minute, currency, payments, amount_minor
    FROM unnest(CAST(%(kinds)s AS text[]), CAST(%(subjects)s AS text[]), CAST(%(lives)s AS boolean[]),
                CAST(%(minutes)s AS timestamptz[]), CAST(%(currencies)s AS text[]),
                CAST(%(payments)s AS bigint[]), CAST(%(amounts)s AS bigint[]))
         AS row (kind, subject, is_live, minute, currency, payments, amount_minor)
    ON CONFLICT (kind, subject, is_live, minute, currency) DO UPDATE
    SET payments = counters.payments + excluded.payments, amount_minor = counters.amount_minor + excluded.amount_minor
""")

UNCOUNT = Statement("""
    UPDATE counters
    SET payments = counters.payments + row.payments, amount_minor = counters.amount_minor + row.amount_minor
    FROM unnest(CAST(%(kinds)s AS text[]), CAST(%(subjects)s AS text[]), CAST(%(lives)s AS boolean[]),
                CAST(%(minutes)s AS timestamptz[]), CAST(%(currencies)s AS text[]),
                CAST(%(payments)s AS bigint[]), CAST(%(amounts)s AS bigint[]))
         AS row (kind, subject, is_live, minute, currency, payments, amount_minor)
    WHERE counters.kind = row.kind AND counters.subject = row.subject AND counters.is_live = row.is_live
      AND counters.minute = row.minute AND counters.currency = row.currency
""")
"""Counters that are older than every window are gone, and there is nothing to take from them."""

FIND_COUNTED = Statement(f"""
    SELECT {COUNTED.names} FROM validations
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) ORDER BY saga_id, step FOR UPDATE
""")

WITHDRAW = Statement("""
    UPDATE validations SET state = 'WITHDRAWN', updated_at = now()
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(steps)s AS text[])) AS row (saga_id, step)
    WHERE validations.saga_id = row.saga_id AND validations.step = row.step
""")

DELETE_COUNTERS = text("""
    DELETE FROM counters WHERE ctid = ANY(ARRAY(SELECT ctid FROM counters WHERE minute < :before LIMIT :limit))
""")
KEPT = timedelta(days=2)
"""Longer than the longest window; a payment that comes later than that is counted in no window."""
DELETED_MAX = 5_000


def lock_subjects(requests: Sequence[ValidatePayment | WithdrawValidation], tx: Connection) -> None:
    """Lock the counters of these payments: those that are decided, and those that are withdrawn."""
    asked = [each for each in requests if isinstance(each, ValidatePayment)]
    found = _columns(sorted({subject for each in asked for subject in each.subjects}))
    if asked:
        ADD_SUBJECTS.run(tx, found)
    saga_ids = [each.saga_id for each in requests if isinstance(each, WithdrawValidation)]
    LOCK_SUBJECTS.run(tx, found | {"saga_ids": saga_ids})


def lock_windows(rules: RuleSets, requests: Sequence[ValidatePayment], tx: Connection) -> Validations:
    """Lock the counters of these payments, and load what they are decided by."""
    lock_subjects(requests, tx)
    return load_windows(rules, requests, tx)


def load_windows(rules: RuleSets, requests: Sequence[ValidatePayment], tx: Connection) -> Validations:
    """Load the active rules, the block lists, and the windows of these payments, without a lock."""
    asked = {(subject, each.currency, minute_of(each.submitted_at)) for each in requests for subject in each.subjects}
    wanted = sorted(asked)
    parameters = _columns([subject for subject, _, _ in wanted]) | {
        "currencies": [currency for _, currency, _ in wanted],
        "last_minutes": [last_minute for _, _, last_minute in wanted],
    }
    read = {wanted[row.ordinal - 1]: row for row in READ_WINDOWS.rows(tx, parameters)}
    windows: dict[tuple[StepKey, SubjectKind, str], Window] = {}
    for request in requests:
        for subject in request.subjects:
            row = read[subject, request.currency, minute_of(request.submitted_at)]
            for name in WINDOWS:
                payments, amount_minor = getattr(row, f"payments_{name}"), getattr(row, f"amount_{name}")
                found_in = Window(payments=int(payments), amount_minor=int(amount_minor))
                windows[request.key, subject[0], name] = found_in
    listed = {
        "payers": sorted({request.payer for request in requests}),
        "merchant_ids": sorted({request.merchant_id for request in requests}),
    }
    found = [(BlockKind(row.kind), row.value) for row in FIND_BLOCKS.rows(tx, listed)]
    active = rules.active(tx)
    return Validations(
        rules=active.rules,
        rules_version=active.version,
        on_undecided=active.on_undecided,
        windows=windows,
        blocks=found,
    )


def save_decisions(batch: Validations, tx: Connection) -> None:
    """Store the decisions of a batch, and count those that may go on."""
    if not batch.decided:
        return
    STORE.run(tx, STORED.parameters(sorted(batch.decided, key=lambda each: each.request.key)))
    going = [counted(each) for each in batch.decided if each.state is ValidationState.COUNTED]
    if going:
        COUNT.run(tx, _changed(going, 1))


def load_withdrawals(commands: Sequence[WithdrawValidation], tx: Connection) -> Withdrawals:
    """Lock the validations of these sagas, and the counters that they are in."""
    lock_subjects(commands, tx)
    rows = FIND_COUNTED.rows(tx, {"saga_ids": [command.saga_id for command in commands]})
    return Withdrawals(counted={(row.saga_id, row.step): _counted(row) for row in rows})


def save_withdrawals(rows: Withdrawals, tx: Connection) -> None:
    """Take the withdrawn payments out of the counters."""
    if rows.withdrawn:
        keys = sorted(each.key for each in rows.withdrawn)
        WITHDRAW.run(tx, {"saga_ids": [saga_id for saga_id, _ in keys], "steps": [step for _, step in keys]})
        UNCOUNT.run(tx, _changed(rows.withdrawn, -1))


def delete_counters(tx: Connection, *, now: datetime) -> bool:
    """Delete some counters that are older than every window, and return whether there may be more."""
    return tx.execute(DELETE_COUNTERS, {"before": now - KEPT, "limit": DELETED_MAX}).rowcount == DELETED_MAX


def _columns(found: Sequence[Subject]) -> dict[str, Any]:
    return {
        "kinds": [kind.value for kind, _, _ in found],
        "subjects": [subject for _, subject, _ in found],
        "lives": [is_live for _, _, is_live in found],
    }


def _changed(payments: Sequence[Counted], sign: int) -> dict[str, Any]:
    found = changes(payments, sign)
    return {
        "kinds": [kind.value for kind, _, _, _, _ in found],
        "subjects": [subject for _, subject, _, _, _ in found],
        "lives": [is_live for _, _, is_live, _, _ in found],
        "currencies": [currency for _, _, _, currency, _ in found],
        "minutes": [minute for _, _, _, _, minute in found],
        "payments": [payments for payments, _ in found.values()],
        "amounts": [amount_minor for _, amount_minor in found.values()],
    }


def _counted(row: Row[Any]) -> Counted:
    return Counted(
        key=(row.saga_id, row.step),
        subjects=(
            (SubjectKind.PAYER, row.payer, row.is_live),
            (SubjectKind.MERCHANT, row.merchant_id, row.is_live),
        ),
        currency=row.currency,
        amount_minor=row.amount_minor,
        submitted_at=row.submitted_at,
    )


def _array(signals: Sequence[str]) -> str:
    """Return an array as PostgreSQL writes it: names of rules have neither quotes nor commas."""
    return "{" + ",".join(f'"{each}"' for each in signals) + "}"
