"""Notifier's tables, and every statement of its step and of its reactions; each takes a whole batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.schema import service_metadata
from notifier.domain import (
    EventType,
    Failure,
    MerchantNotice,
    NotifyMerchant,
    Owner,
    Planned,
    Subject,
    Subscription,
    owners,
)

metadata = service_metadata()
endpoints = Table(
    "endpoints",
    metadata,
    Column("endpoint_id", Text, primary_key=True),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("types", ARRAY(Text), nullable=False, comment="the event types that it gets; none: all of them"),
    Column("state", Text, nullable=False, comment="ENABLED, DISABLED or DELETED"),
    Column("disabled_because", Text),
    Column("disabled_at", DateTime(timezone=True)),
    Column("failing_since", DateTime(timezone=True), comment="the first failure since the last success"),
    Column("slow_until", DateTime(timezone=True), comment="nothing is sent before"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Index("endpoints_of_merchant", "merchant_id", "is_live", "endpoint_id"),
    Index("endpoints_url", "merchant_id", "is_live", "url", unique=True, postgresql_where=text("state <> 'DELETED'")),
)
secrets = Table(
    "endpoint_secrets",
    metadata,
    Column("endpoint_id", Text, primary_key=True),
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("sealed", LargeBinary, nullable=False, comment="encrypted with the service's key"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), comment="when it signs no more; null: it is the newest"),
)
events = Table(
    "events",
    metadata,
    Column("event_id", Text, primary_key=True, comment="the webhook-id"),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("type", Text, nullable=False),
    Column("payment_id", BigInteger),
    Column("saga_id", Text),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("body", Text, nullable=False, comment="the bytes that are sent and signed"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("events_of_merchant", "merchant_id", "is_live", "position"),
    Index("events_by_age", "created_at"),
)
deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("event_id", Text, nullable=False),
    Column("endpoint_id", Text, nullable=False),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("cause", Text, nullable=False, comment="EVENT, REPLAY or PING"),
    Column("state", Text, nullable=False, server_default="DUE", comment="DUE, DELIVERED or FAILED"),
    Column("attempt_count", SmallInteger, nullable=False, server_default="0"),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("lease", Text, comment="the process's, while an attempt is under way; it ends at due_at"),
    Column("last_outcome", Text),
    Column("last_status", SmallInteger),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended_at", DateTime(timezone=True)),
    Index("deliveries_due", "endpoint_id", "due_at", postgresql_where=text("state = 'DUE'")),
    Index("deliveries_once", "event_id", "endpoint_id", unique=True, postgresql_where=text("state = 'DUE'")),
    Index("deliveries_of_endpoint", "endpoint_id", "position"),
    Index("deliveries_of_merchant", "merchant_id", "is_live", "position"),
    Index("deliveries_by_age", "created_at"),
)
attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("number", SmallInteger, primary_key=True),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("endpoint_id", Text, nullable=False),
    Column("began_at", DateTime(timezone=True), nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", SmallInteger),
    Index("attempts_of_endpoint", "endpoint_id", "position"),
    Index("attempts_by_age", "began_at"),
)
outcomes = Table(
    "saga_outcomes",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("subject", Text, comment="JSON: what the saga is about, from the event that began it"),
    Column("failure", Text, comment="JSON: how it failed"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("saga_outcomes_by_age", "created_at"),
)
contacts = Table(
    "member_contacts",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("phone", Text, comment="12 digits; null: the registration has not arrived yet"),
    Column("language", Text, comment="en or sw"),
    Column("registered_at", DateTime(timezone=True)),
)
waiting_texts = Table(
    "waiting_texts",
    metadata,
    Column("text_id", Text, primary_key=True),
    Column("language", Text, primary_key=True),
    Column("saga_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("waiting_texts_of_member", "member_id"),
    comment="texts to members whose registration has not arrived yet, each in every language",
)
texts = Table(
    "texts",
    metadata,
    Column("text_id", Text, primary_key=True),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("saga_id", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("phone", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="DUE", comment="DUE, SENT or GIVEN_UP"),
    Column("attempt_count", SmallInteger, nullable=False, server_default="0"),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("lease", Text, comment="the process's, while an attempt is under way; it ends at due_at"),
    Column("last_error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended_at", DateTime(timezone=True)),
    Index("texts_due", "due_at", postgresql_where=text("state = 'DUE'")),
    Index("texts_of_member", "member_id", "position"),
    Index("texts_by_position", "position"),
    Index("texts_by_age", "created_at"),
)

EVENTS = Columns.of(events, without=["position", "created_at"])
PLANNED = Columns.of(deliveries).only("delivery_id", "event_id", "endpoint_id", "merchant_id", "is_live", "cause")

SUBSCRIPTIONS = Statement("""
    SELECT endpoint_id, merchant_id, endpoints.is_live, types
    FROM endpoints
    JOIN unnest(CAST(%(merchants)s AS text[]), CAST(%(modes)s AS boolean[])) AS owner (merchant, is_live)
      ON merchant_id = owner.merchant AND endpoints.is_live = owner.is_live
    WHERE state = 'ENABLED'
    ORDER BY endpoint_id
""")

SAVE_EVENTS = Statement(f"""
    INSERT INTO events ({EVENTS.names})
    SELECT {EVENTS.values}
    FROM {EVENTS.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_id
""")

SAVE_DELIVERIES = Statement(f"""
    INSERT INTO deliveries ({PLANNED.names})
    SELECT {PLANNED.values}
    FROM {PLANNED.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT DO NOTHING
""")

RECORD_OUTCOMES = Statement("""
    INSERT INTO saga_outcomes AS known (saga_id, subject, failure)
    SELECT saga_id, subject, failure
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(subjects)s AS text[]), CAST(%(failures)s AS text[]))
        AS row (saga_id, subject, failure)
    ORDER BY saga_id
    ON CONFLICT (saga_id) DO UPDATE
    SET subject = coalesce(known.subject, excluded.subject), failure = coalesce(known.failure, excluded.failure)
    RETURNING saga_id, subject, failure
""")
"""Both events of a saga change one row. So the second one finds the first, also where two processes handle them."""


def load_subscriptions(requests: Sequence[NotifyMerchant], tx: Connection) -> Planned:
    """Read the enabled endpoints of the merchants of a batch."""
    return planned_for(owners(request.notice for request in requests), tx)


def planned_for(wanted: Sequence[Owner], tx: Connection) -> Planned:
    """Return an empty plan with the subscriptions of these merchants."""
    found: dict[Owner, list[Subscription]] = {}
    values = {"merchants": [merchant for merchant, _ in wanted], "modes": [is_live for _, is_live in wanted]}
    for row in SUBSCRIPTIONS.rows(tx, values):
        subscription = Subscription(endpoint_id=row.endpoint_id, types=tuple(row.types))
        found.setdefault((row.merchant_id, row.is_live), []).append(subscription)
    return Planned(subscriptions=found)


def save_planned(planned: Planned, tx: Connection) -> list[MerchantNotice]:
    """Store notices with their deliveries, and return those notices that were not stored before."""
    if not planned.notices:
        return []
    new = {row.event_id for row in SAVE_EVENTS.rows(tx, EVENTS.parameters(planned.notices))}
    deliveries_of_new = [each for each in planned.deliveries if each.event_id in new]
    if deliveries_of_new:
        SAVE_DELIVERIES.run(tx, PLANNED.parameters(deliveries_of_new))
    return [each for each in planned.notices if each.event_id in new]


def record_subjects(subjects: Iterable[Subject], tx: Connection) -> list[tuple[Subject, Failure]]:
    """Record what sagas are about, and return those that have failed already, with how."""
    return _subjects(record_outcomes({each.saga_id: (_subject_json(each), None) for each in subjects}, tx))


def record_failures(failures: Iterable[Failure], tx: Connection) -> list[tuple[Subject, Failure]]:
    """Record how sagas failed, and return those of which it is known what they are about."""
    return _subjects(record_outcomes({each.saga_id: (None, failure_json(each)) for each in failures}, tx))


def record_outcomes(rows: Mapping[str, tuple[str | None, str | None]], tx: Connection) -> list[tuple[Any, Failure]]:
    """Record subjects and failures by saga, and return the rows that have both, each with its failure."""
    if not rows:
        return []
    values = {
        "saga_ids": list(rows),
        "subjects": [subject for subject, _ in rows.values()],
        "failures": [failure for _, failure in rows.values()],
    }
    found = RECORD_OUTCOMES.rows(tx, values)
    return [(row, _failure(row)) for row in found if row.subject is not None and row.failure is not None]


def _subjects(found: Iterable[tuple[Any, Failure]]) -> list[tuple[Subject, Failure]]:
    return [(_subject(row), failure) for row, failure in found]


def _subject_json(subject: Subject) -> str:
    return json.dumps(
        {
            "merchant_id": subject.merchant_id,
            "is_live": subject.is_live,
            "payment_id": subject.payment_id,
            "fails_as": subject.fails_as,
            "cancelled_as": subject.cancelled_as,
            "data": dict(subject.data),
        }
    )


def _subject(row: Any) -> Subject:
    fields = json.loads(row.subject)
    return Subject(
        saga_id=row.saga_id,
        merchant_id=fields["merchant_id"],
        is_live=fields["is_live"],
        payment_id=fields["payment_id"],
        fails_as=EventType(fields["fails_as"]),
        cancelled_as=EventType(fields["cancelled_as"]),
        data=fields["data"],
    )


def failure_json(failure: Failure) -> str:
    """Return how a saga failed as it is stored."""
    return json.dumps(
        {
            "cause": failure.cause,
            "step": failure.step,
            "reason": failure.reason,
            "failed_at": failure.failed_at.isoformat(),
        }
    )


def _failure(row: Any) -> Failure:
    fields = json.loads(row.failure)
    return Failure(
        saga_id=row.saga_id,
        cause=fields["cause"],
        step=fields["step"],
        reason=fields["reason"],
        failed_at=datetime.fromisoformat(fields["failed_at"]),
    )
