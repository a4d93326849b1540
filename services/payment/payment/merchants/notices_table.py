"""The items of gateways' webhooks, each with its fate, and the reversals that were reported because of them.

What is evidence about an attempt has its body with the chassis' evidence; every other item has it here.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    Row,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.evidence import Received
from payment.gateways.notices import Kind, Notice, Reported

DECIDE_AGAIN = (timedelta(seconds=2), timedelta(seconds=30), timedelta(minutes=5), timedelta(hours=1))
"""How long a report waits until it is looked at again; the last wait repeats."""
DECIDED_MAX = 100


class NoticeFate(enum.StrEnum):
    """What became of an item of a webhook."""

    EVIDENCE = "EVIDENCE"
    """It is about an attempt; the evidence has what became of it."""
    IGNORED = "IGNORED"
    """It is nothing for us."""
    WAITING = "WAITING"
    """It is a report that cannot be decided about yet: its payment is not known, or is under way."""
    REPORTED = "REPORTED"
    NEEDLESS = "NEEDLESS"
    """A report of what was known before, or of what our own request has led to."""
    STRANGE = "STRANGE"
    """A report that does not fit its payment, or a success after a failure; a person decides."""
    CLOSED = "CLOSED"
    """A person has put it right, with a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """A report that waits for a decision."""

    id: str
    account: str
    received_at: datetime
    tries: int
    reported: Reported


def gateway_notices_table(metadata: MetaData) -> Table:
    """Return the items of webhooks."""
    table = Table(
        "gateway_notices",
        metadata,
        Column("id", Text, primary_key=True),
        Column("account", Text, nullable=False),
        Column("dedupe", Text, nullable=False, comment="the same for each delivery of one item"),
        Column("event", Text, nullable=False),
        Column("received_at", DateTime(timezone=True), nullable=False),
        Column("fate", Text, nullable=False),
        Column("kind", Text, comment="of a report"),
        Column("gateway_payment_id", Text),
        Column("payment_id", BigInteger),
        Column("gateway_reference", Text),
        Column("amount_minor", BigInteger),
        Column("currency", Text),
        Column("reason", Text),
        Column("attempt_key", Text),
        Column("headers", Text, nullable=False, comment="JSON pairs"),
        Column("body", LargeBinary, comment="as it came; null: the evidence has it"),
        Column("tries", SmallInteger, nullable=False),
        Column("decide_at", DateTime(timezone=True), comment="null: it is decided"),
        Column("closed_by", Text, comment="who has put right what was strange"),
        Column("closed_reason", Text),
        UniqueConstraint("account", "dedupe", name="gateway_notices_once"),
    )
    Index("gateway_notices_by_reference", table.c.account, table.c.gateway_reference)
    Index("gateway_notices_waiting", table.c.decide_at, postgresql_where=table.c.decide_at.is_not(None))
    return table


def reversals_table(metadata: MetaData) -> Table:
    """Return what gateways have taken back, each reported once."""
    return Table(
        "gateway_reversals",
        metadata,
        Column("reversal_id", Text, primary_key=True, comment="also the id of its saga"),
        Column("account", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("gateway_reference", Text, nullable=False),
        Column("payment_id", BigInteger, nullable=False),
        Column("refund_id", BigInteger),
        Column("reversed_minor", BigInteger, nullable=False),
        Column("currency", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("notice_id", Text, nullable=False),
        Column("reported_at", DateTime(timezone=True), nullable=False),
        Column("ended_at", DateTime(timezone=True), comment="when its saga has ended; null: it runs"),
        Index("gateway_reversals_of_payment", "payment_id"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewNotice:
    received: Received
    notice: Notice
    fate: NoticeFate

    @property
    def reported(self) -> Reported | None:
        return self.notice.reported


def _of_report(name: str) -> Any:
    return lambda each: None if each.reported is None else getattr(each.reported, name)


_REPORT = (
    "kind", "gateway_payment_id", "payment_id", "gateway_reference", "amount_minor", "currency", "reason",
    "attempt_key",
)  # fmt: skip
NOTICE = Columns.of(
    gateway_notices_table(MetaData()),
    without=["tries", "closed_by", "closed_reason"],
    sources={
        "id": "received.id",
        "account": "received.provider",
        "received_at": "received.received_at",
        "dedupe": "notice.dedupe",
        "event": "notice.event",
        "fate": "fate.value",
        **{name: _of_report(name) for name in _REPORT},
        "gateway_reference": lambda each: each.notice.reference,
        "headers": lambda each: json.dumps(list(each.received.headers)),
        "body": lambda each: None if each.fate is NoticeFate.EVIDENCE else each.received.body,
        "decide_at": lambda each: each.received.received_at if each.fate is NoticeFate.WAITING else None,
    },
)
REVERSAL = Columns.of(reversals_table(MetaData()), without=["ended_at"])

ADD = Statement(f"""
    INSERT INTO gateway_notices ({NOTICE.names}, tries)
    SELECT {NOTICE.values}, 0
    FROM {NOTICE.rows}
    ON CONFLICT (account, dedupe) DO NOTHING
    RETURNING id
""")

FAILED_BEFORE = Statement("""
    SELECT id FROM gateway_notices
    WHERE account = %(account)s AND gateway_reference = %(reference)s
        AND kind IN ('CAPTURE_FAILED', 'REFUND_FAILED') AND fate = 'REPORTED'
""")

CAPTURES = Statement("""
    SELECT id FROM gateway_notices
    WHERE account = %(account)s AND gateway_reference = %(reference)s AND event = 'CAPTURE'
        AND starts_with(dedupe, gateway_reference || ':CAPTURE:true:')
""")

CLOSE = Statement("""
    UPDATE gateway_notices
    SET fate = 'CLOSED', closed_by = %(by)s, closed_reason = %(reason)s
    WHERE id = %(id)s AND fate = 'STRANGE'
    RETURNING id
""")

WAITING = Statement(f"""
    SELECT id, account, received_at, tries, {", ".join(_REPORT)}
    FROM gateway_notices
    WHERE decide_at <= %(now)s
    ORDER BY decide_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
""")

DECIDE = Statement("""
    UPDATE gateway_notices
    SET fate = row.fate, decide_at = row.decide_at, tries = tries + 1
    FROM unnest(
        CAST(%(ids)s AS text[]), CAST(%(fates)s AS text[]), CAST(%(decide_at)s AS timestamptz[])
    ) AS row (id, fate, decide_at)
    WHERE gateway_notices.id = row.id
""")

BODY = Statement("""
    SELECT headers, body FROM gateway_notices WHERE id = %(id)s
""")

ADD_REVERSALS = Statement(f"""
    INSERT INTO gateway_reversals ({REVERSAL.names})
    SELECT {REVERSAL.values}
    FROM {REVERSAL.rows}
    ON CONFLICT (reversal_id) DO NOTHING
    RETURNING reversal_id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """The row of what a gateway has taken back."""

    reversal_id: str
    account: str
    kind: Kind
    gateway_reference: str
    payment_id: int
    refund_id: int | None
    reversed_minor: int
    currency: str
    reason: str
    notice_id: str
    reported_at: datetime


def add_notice(tx: Connection, received: Received, notice: Notice, fate: NoticeFate) -> bool:
    """Store an item of a webhook, and return whether it is new."""
    row = _NewNotice(received=received, notice=notice, fate=fate)
    return bool(ADD.rows(tx, NOTICE.parameters([row])))


def has_failed(tx: Connection, account: str, reference: str) -> bool:
    """Return whether a capture or a refund, by the gateway's id of it, was reported as failed."""
    return bool(FAILED_BEFORE.rows(tx, {"account": account, "reference": reference}))


def has_succeeded_again(tx: Connection, account: str, capture: str) -> bool:
    """Return whether the gateway has reported more than one success of a capture, each at a time of its own."""
    return len(CAPTURES.rows(tx, {"account": account, "reference": capture})) > 1


def close(tx: Connection, notice_id: str, *, by: str, reason: str) -> bool:
    """Record that a person has put right what was strange, and return whether it still was."""
    return bool(CLOSE.rows(tx, {"id": notice_id, "by": by, "reason": reason}))


def lock_waiting(tx: Connection, *, now: datetime, limit: int = DECIDED_MAX) -> list[StoredReport]:
    """Lock reports that are due for a decision."""
    return [_report(row) for row in WAITING.rows(tx, {"now": now, "limit": limit})]


def decide(tx: Connection, fates: Sequence[tuple[StoredReport, NoticeFate]], *, now: datetime) -> None:
    """Record what became of these reports; one that still waits is looked at again later."""
    if not fates:
        return
    again = [
        now + DECIDE_AGAIN[min(report.tries, len(DECIDE_AGAIN) - 1)] if fate is NoticeFate.WAITING else None
        for report, fate in fates
    ]
    values = {
        "ids": [report.id for report, _ in fates],
        "fates": [fate.value for _, fate in fates],
        "decide_at": again,
    }
    DECIDE.run(tx, values)


def body_of(tx: Connection, notice_id: str) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of an item that is no evidence yet."""
    (row,) = BODY.rows(tx, {"id": notice_id})
    return [(name, value) for name, value in json.loads(row.headers)], bytes(row.body or b"")


def add_reversal(tx: Connection, reversal: Reversal) -> bool:
    """Store a reversal, and return whether it is new."""
    return bool(ADD_REVERSALS.rows(tx, REVERSAL.parameters([reversal])))


END_REVERSALS = Statement("""
    UPDATE gateway_reversals SET ended_at = row.ended_at
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(ended_at)s AS timestamptz[])) AS row (id, ended_at)
    WHERE reversal_id = row.id AND gateway_reversals.ended_at IS NULL
""")


def end_reversals(tx: Connection, ended: Sequence[tuple[str, datetime]]) -> None:
    """Record when the sagas of these reversals have ended."""
    ordered = sorted(dict(ended).items())
    END_REVERSALS.run(tx, {"ids": [each for each, _ in ordered], "ended_at": [at for _, at in ordered]})


def _report(row: Row[Any]) -> StoredReport:
    return StoredReport(
        id=row.id,
        account=row.account,
        received_at=row.received_at,
        tries=row.tries,
        reported=Reported(
            kind=Kind(row.kind),
            gateway_payment_id=row.gateway_payment_id,
            payment_id=row.payment_id,
            gateway_reference=row.gateway_reference,
            amount_minor=row.amount_minor,
            currency=row.currency,
            reason=row.reason,
            attempt_key=row.attempt_key,
        ),
    )
