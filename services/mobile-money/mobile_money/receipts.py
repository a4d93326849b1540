"""Incoming money: one receipt is one credit, whichever doors it comes through. Only what is new here starts a saga.

The primary key decides which door was first. Any later one stands beside it, and may confirm what waits for that.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id, headers, new_traceparent
from messages.contract import name_of
from messages.mobile_money import ReceiptReceived
from mobile_money.tables import metadata

EVENTS: Final = "mobile-money.events"
SOURCE: Final = "mobile-money"
SAGA, VERSION = "receipt", 1

log = structlog.get_logger()


class Door(enum.StrEnum):
    """Through which a receipt becomes known."""

    CALLBACK = "CALLBACK"
    CONFIRMATION = "CONFIRMATION"
    PULL = "PULL"
    STATEMENT = "STATEMENT"
    CLERK = "CLERK"
    QUERY = "QUERY"
    """It never brings a receipt, it confirms one."""


CONFIRMING: Final = frozenset({Door.PULL, Door.STATEMENT, Door.QUERY})
"""What the provider answers to us. A path may become known to others, and a clerk may err."""


class ReceiptState(enum.StrEnum):
    """The state of a receipt here."""

    UNCONFIRMED = "UNCONFIRMED"
    """Only a callback has brought it, and the provider has not confirmed it yet. It credits nothing."""
    RECEIVED = "RECEIVED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    """Its saga was stopped. A person starts it again."""


receipts = Table(
    "receipts",
    metadata,
    Column("provider", Text, nullable=False),
    Column("short_code", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("saga_id", Text, nullable=False, unique=True),
    Column("generation", SmallInteger, nullable=False, comment="counts how often its saga was started"),
    Column("state", Text, nullable=False),
    Column("door", Text, nullable=False, comment="that brought it first"),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("completed_at", DateTime(timezone=True), nullable=False),
    Column("reference", Text),
    Column("collection_id", Text),
    Column("payer_hash", Text),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("query_at", DateTime(timezone=True), comment="when to ask the provider to confirm it"),
    Column("queries", SmallInteger, nullable=False),
    PrimaryKeyConstraint("provider", "short_code", "receipt"),
    Index("receipts_by_collection", "collection_id"),
    Index("receipts_by_time", "short_code", "completed_at"),
)
Index(
    "receipts_listed",
    receipts.c.state,
    receipts.c.received_at,
    postgresql_where=receipts.c.state.in_(["UNCONFIRMED", "FAILED"]),
)
receipt_doors = Table(
    "receipt_doors",
    metadata,
    Column("provider", Text, nullable=False),
    Column("short_code", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("door", Text, nullable=False),
    Column("source_id", Text, nullable=False, comment="of the callback, the row, or the claim"),
    Column("amount_minor", BigInteger, nullable=False),
    Column("is_same", Boolean, nullable=False, comment="whether it has the receipt's amount"),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("provider", "short_code", "receipt", "door"),
)
RECEIPT = Columns.of(receipts, without=["queries"], sources={"state": "state.value", "door": "door.value"})
DOOR = Columns.of(receipt_doors, sources={"door": "door.value"})
KEY: Final = "provider, short_code, receipt"

ADD: Final = Statement(f"""
    INSERT INTO receipts ({RECEIPT.names}, queries)
    SELECT {RECEIPT.values}, 0 FROM {RECEIPT.rows}
    ON CONFLICT ({KEY}) DO NOTHING
    RETURNING {KEY}
""")
FIND: Final = Statement(f"""
    SELECT {RECEIPT.names} FROM receipts
    WHERE ({KEY}) IN (
        SELECT * FROM unnest(
            CAST(%(providers)s AS text[]), CAST(%(short_codes)s AS text[]), CAST(%(receipts)s AS text[])
        )
    )
    ORDER BY {KEY}
    FOR UPDATE
""")
ADD_DOORS: Final = Statement(f"""
    INSERT INTO receipt_doors ({DOOR.names})
    SELECT {DOOR.values} FROM {DOOR.rows}
    ON CONFLICT ({KEY}, door) DO NOTHING
""")
CONFIRM: Final = Statement("""
    UPDATE receipts
    SET state = 'RECEIVED', query_at = NULL, reference = coalesce(receipts.reference, row.reference),
        collection_id = coalesce(receipts.collection_id, row.collection_id)
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(references)s AS text[]), CAST(%(collections)s AS text[]))
        AS row (saga_id, reference, collection_id)
    WHERE receipts.saga_id = row.saga_id AND receipts.state = 'UNCONFIRMED'
""")
PAYING: Final = Statement(f"""
    SELECT receipts.provider, receipts.receipt, receipts.amount_minor, receipts.completed_at, receipts.door,
           attempts.key
    FROM receipts
    JOIN prompts ON prompts.saga_id = receipts.collection_id AND prompts.amount_minor = receipts.amount_minor
    JOIN attempts ON attempts.saga_id = prompts.saga_id AND attempts.step = 'send_prompt' AND attempts.state = 'OPEN'
    WHERE receipts.state <> 'UNCONFIRMED' AND (receipts.{KEY.replace(", ", ", receipts.")}) IN (
        SELECT * FROM unnest(
            CAST(%(providers)s AS text[]), CAST(%(short_codes)s AS text[]), CAST(%(receipts)s AS text[])
        )
    )
""")
END: Final = Statement("""
    UPDATE receipts SET state = row.state
    FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(states)s AS text[])) AS row (saga_id, state)
    WHERE receipts.saga_id = row.saga_id AND receipts.state = 'RECEIVED'
""")
REOPEN: Final = Statement("""
    UPDATE receipts SET state = 'RECEIVED', generation = generation + 1, saga_id = %(saga_id)s
    WHERE provider = %(provider)s AND short_code = %(short_code)s AND receipt = %(receipt)s
        AND state = 'FAILED' AND generation = %(generation)s
    RETURNING saga_id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A receipt as one door brings it. ``is_confirmed``: it counts at once."""

    provider: str
    short_code: str
    receipt: str
    currency: str
    amount_minor: int
    completed_at: datetime
    door: Door
    source_id: str
    is_confirmed: bool = True
    reference: str | None = None
    collection_id: str | None = None
    payer_hash: str | None = None
    received_at: datetime

    generation: int = 1

    @property
    def key(self) -> tuple[str, str, str]:
        """The receipt's key."""
        return self.provider, self.short_code, self.receipt

    @property
    def saga_id(self) -> str:
        """The saga of the receipt: the same for whichever door it comes through."""
        return saga_id_of(*self.key, self.generation)

    @property
    def state(self) -> ReceiptState:
        """The state in which it begins."""
        return ReceiptState.RECEIVED if self.is_confirmed else ReceiptState.UNCONFIRMED

    @property
    def query_at(self) -> datetime | None:
        """When to ask the provider to confirm it."""
        return None if self.is_confirmed else self.received_at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    provider: str
    short_code: str
    receipt: str
    door: Door
    source_id: str
    amount_minor: int
    is_same: bool
    seen_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What became of arrivals: the events of the new ones as outbox rows, and the keys of which were known before."""

    rows: list[OutboxRow]
    known: set[tuple[str, str, str]]
    different: set[tuple[str, str, str]]
    """Those known with another amount; nothing is credited for them."""


def saga_id_of(provider: str, short_code: str, receipt: str, generation: int) -> str:
    """Return the id of a receipt's saga."""
    return derived_id("receipt", provider, short_code, receipt, generation)


def arrive(tx: Connection, arrivals: Sequence[Arrival], codec: Codec, *, now: datetime) -> Arrived:
    """Take receipts in, in the caller's transaction, and return what is to be published after it.

    1. Each is added once; who comes second, here or in another process, is a door of the first.
    2. What waits for confirmation, and a door brings that, counts from now on.
    3. New ones that count are events, in the outbox of this transaction.
    """
    if not arrivals:
        return Arrived(rows=[], known=set(), different=set())
    # 1.
    firsts: dict[tuple[str, str, str], Arrival] = {}
    for each in arrivals:
        firsts.setdefault(each.key, each)
    ordered = [firsts[key] for key in sorted(firsts)]
    added = {tuple(row) for row in ADD.rows(tx, RECEIPT.parameters(ordered))}
    stored = _find(tx, sorted(firsts))
    doors = [_door(each, stored[each.key]) for each in arrivals]
    ADD_DOORS.run(tx, DOOR.parameters(sorted(doors, key=lambda each: (each.receipt, each.door))))
    different = {(door.provider, door.short_code, door.receipt) for door in doors if not door.is_same}
    for _, _, receipt in sorted(different):
        log.error("A receipt came with another amount than before; it is listed.", receipt=receipt)
    # 2.
    confirmed = _confirm(tx, [each for each in arrivals if each.key not in different], stored)
    # 3.
    started = [each for each in ordered if each.key in added and each.is_confirmed]
    rows = [row_of(event_of(each, now), codec) for each in (*started, *confirmed)]
    outbox.save(tx, rows)
    return Arrived(rows=rows, known=set(firsts) - added, different=different)


def paying(tx: Connection, keys: Collection[tuple[str, str, str]]) -> list[Any]:
    """Return those of these receipts that count and pay a prompt whose outcome is open, with the prompt's key."""
    return PAYING.rows(tx, _values(sorted(keys))) if keys else []


def _confirm(tx: Connection, arrivals: Sequence[Arrival], stored: dict[tuple[str, str, str], Any]) -> list[Arrival]:
    confirmed: dict[tuple[str, str, str], Arrival] = {}
    for each in arrivals:
        row = stored[each.key]
        if row.state != ReceiptState.UNCONFIRMED.value or each.door not in CONFIRMING:
            continue
        confirmed.setdefault(each.key, Arrival(
            provider=row.provider, short_code=row.short_code, receipt=row.receipt, currency=row.currency,
            amount_minor=row.amount_minor, completed_at=row.completed_at, door=Door(row.door), source_id=each.source_id,
            reference=row.reference or each.reference, collection_id=row.collection_id or each.collection_id,
            payer_hash=row.payer_hash, received_at=row.received_at, generation=row.generation,
        ))  # fmt: skip
    found = [confirmed[key] for key in sorted(confirmed)]
    if found:
        values = {
            "saga_ids": [each.saga_id for each in found],
            "references": [each.reference for each in found],
            "collections": [each.collection_id for each in found],
        }
        CONFIRM.run(tx, values)
    return found


def _find(tx: Connection, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Any]:
    return {(row.provider, row.short_code, row.receipt): row for row in FIND.rows(tx, _values(keys))}


def _values(keys: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    return {
        "providers": [key[0] for key in keys],
        "short_codes": [key[1] for key in keys],
        "receipts": [key[2] for key in keys],
    }


def _door(each: Arrival, row: Any) -> _Door:
    return _Door(
        provider=each.provider,
        short_code=each.short_code,
        receipt=each.receipt,
        door=each.door,
        source_id=each.source_id,
        amount_minor=each.amount_minor,
        is_same=each.amount_minor == row.amount_minor,
        seen_at=each.received_at,
    )


def event_of(each: Arrival, now: datetime) -> ReceiptReceived:
    """Return the event that starts a receipt's saga."""
    return ReceiptReceived(
        message_id=derived_id(each.saga_id, "received"),
        saga_id=each.saga_id,
        saga_type=SAGA,
        saga_version=VERSION,
        causation_id=None,
        occurred_at=now,
        provider=each.provider,
        short_code=each.short_code,
        receipt=each.receipt,
        currency=each.currency,
        amount_minor=each.amount_minor,
        completed_at=each.completed_at,
        door=each.door.value,
        reference=each.reference,
        collection_id=each.collection_id,
        payer_hash=each.payer_hash,
    )


def row_of(event: ReceiptReceived, codec: Codec) -> OutboxRow:
    """Return the outbox row of a receipt's event. Its partition is chosen by its key."""
    return OutboxRow(
        id=event.message_id,
        topic=EVENTS,
        saga_id=event.saga_id,
        type=name_of(type(event)),
        payload=codec.encode(EVENTS, event),
        headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
        partition=None,
    )


def end(tx: Connection, ended: Sequence[tuple[str, ReceiptState]]) -> None:
    """Record how the sagas of receipts ended."""
    ordered = sorted(ended)
    END.run(tx, {"saga_ids": [each for each, _ in ordered], "states": [state.value for _, state in ordered]})


def reopen(tx: Connection, row: Any, codec: Codec, *, now: datetime) -> list[OutboxRow]:
    """Start the saga of a stopped receipt again, under the id of its next generation; empty where another one did."""
    arrival = Arrival(
        provider=row.provider, short_code=row.short_code, receipt=row.receipt, currency=row.currency,
        amount_minor=row.amount_minor, completed_at=row.completed_at, door=Door(row.door), source_id="",
        reference=row.reference, collection_id=row.collection_id, payer_hash=row.payer_hash,
        received_at=row.received_at, generation=row.generation + 1,
    )  # fmt: skip
    values = {
        "provider": row.provider, "short_code": row.short_code, "receipt": row.receipt, "generation": row.generation,
        "saga_id": arrival.saga_id,
    }  # fmt: skip
    if not REOPEN.rows(tx, values):
        return []
    rows = [row_of(event_of(arrival, now), codec)]
    outbox.save(tx, rows)
    return rows
