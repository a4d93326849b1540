"""Everything that the audit reads, in one SQLite file, so that an invariant is one query.

The file is on disk and deleted afterwards; memory stays bounded whatever the number of sagas.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from baraza.audit import payments, providers, returns, sources
from baraza.audit.sacco import reading as sacco
from baraza.audit.sources import Row, Sources, services_of
from saga_tracker.model.saga import SagaDefinition

INSERT_ROWS = 20_000

TABLES = """
    CREATE TABLE steps (saga_type, saga_version, step, service, undone_by, holds);
    CREATE TABLE sagas (
        saga_id PRIMARY KEY, saga_type, saga_version, state, reason, idle_days, is_awaiting
    ) WITHOUT ROWID;
    CREATE TABLE orders (
        order_id PRIMARY KEY, state, customer_id, payable_minor, points_to_burn, lines, currency, total_minor,
        lines_minor, rate_points, rate_minor, destination
    ) WITHOUT ROWID;
    CREATE TABLE effects (saga_id, step, service, state, PRIMARY KEY (saga_id, step, service)) WITHOUT ROWID;
    CREATE TABLE strays (saga_id, step, service, state, PRIMARY KEY (saga_id, step, service)) WITHOUT ROWID;
    CREATE TABLE payments (saga_id, step, state, amount_minor, currency, PRIMARY KEY (saga_id, step)) WITHOUT ROWID;
    CREATE TABLE reservations (saga_id, step, state, lines, PRIMARY KEY (saga_id, step)) WITHOUT ROWID;
    CREATE TABLE stock (sku PRIMARY KEY, received, on_hand, reserved, moved) WITHOUT ROWID;
    CREATE TABLE burns (saga_id, step, customer_id, points, state, PRIMARY KEY (saga_id, step)) WITHOUT ROWID;
    CREATE TABLE accounts (customer_id PRIMARY KEY, granted, balance, burned, moved) WITHOUT ROWID;
    CREATE TABLE shipments (saga_id, step, state, tracking_number, PRIMARY KEY (saga_id, step)) WITHOUT ROWID;
    CREATE TABLE ledger (
        saga_id, step, debit_minor, credit_minor, receivable_minor, posted_minor, points_minor, posts, reversals,
        currency, currencies, PRIMARY KEY (saga_id, step)
    ) WITHOUT ROWID;
    CREATE TABLE manual_postings (saga_id PRIMARY KEY, state, proposed_by, decided_by) WITHOUT ROWID;
    CREATE TABLE manual_transfers (saga_id PRIMARY KEY, posted) WITHOUT ROWID;
    CREATE TABLE ledger_counts (rule, count);
    CREATE TABLE ledger_differences (rule, id, problem);
    CREATE TABLE replies (saga_id, step);
    CREATE TABLE outbox (service, id, saga_id);
    CREATE TABLE deferred (service, id, saga_id, is_undated);
    CREATE TABLE consumed (topic, partition, next_offset, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
    CREATE TABLE dead_letters (topic, partition, message_offset, saga_id);
    CREATE TABLE letters (
        topic, partition, message_offset, saga_id, service, open, resolution,
        PRIMARY KEY (topic, partition, message_offset)
    ) WITHOUT ROWID;
    CREATE TABLE resolutions (saga_id, proposed_by, approved_by);
    CREATE TABLE authorizations (id PRIMARY KEY, saga_id, state, amount_minor, currency) WITHOUT ROWID;
    CREATE TABLE captures (id PRIMARY KEY, saga_id, amount_minor, currency) WITHOUT ROWID;
    CREATE TABLE refunds (id PRIMARY KEY, saga_id, amount_minor, currency) WITHOUT ROWID;
    CREATE TABLE parcels (tracking_number PRIMARY KEY, saga_id, state, lines, destination) WITHOUT ROWID;
"""
SCHEMA = TABLES + returns.SCHEMA + payments.SCHEMA + sacco.SCHEMA

UNSETTLED = """
    -- unsettled: a call whose outcome the service does not know, or a message that it could not handle.
    CREATE TABLE unsettled (saga_id, service, PRIMARY KEY (saga_id, service)) WITHOUT ROWID;
    INSERT INTO unsettled
    SELECT saga_id, service FROM effects WHERE state = 'STARTED'
    UNION SELECT saga_id, service FROM deferred WHERE is_undated
    UNION SELECT saga_id, service FROM letters
    WHERE saga_id IS NOT NULL AND service IS NOT NULL AND resolution IS NULL;
"""

DERIVED = """
    -- settled: what the gateway has charged for a saga. charged: what payment has; both with refunds of returns.
    -- posted: the ledger's receivable of an order and its returns, less what parked returns have not posted yet,
    -- without what people posted by hand, of which the gateway knows nothing.
    -- charges: every amount that is recorded for an order as a whole, in any state of its saga.
    -- held: what a service holds for a step now. holding: the steps that are to hold something while they are done.
    CREATE TABLE settled (
        saga_id PRIMARY KEY, authorizations, open, captures, captured_minor, refunds, refunded_minor
    ) WITHOUT ROWID;
    INSERT INTO settled
    SELECT saga_id, sum(authorized), sum(open), sum(captured), sum(captured_minor), sum(refunded), sum(refunded_minor)
    FROM (
        SELECT saga_id, 1 AS authorized, state = 'open' AS open, 0 AS captured, 0 AS captured_minor, 0 AS refunded,
               0 AS refunded_minor
        FROM authorizations
        UNION ALL SELECT saga_id, 0, 0, 1, amount_minor, 0, 0 FROM captures
        UNION ALL SELECT saga_id, 0, 0, 0, 0, 1, amount_minor FROM refunds
    )
    GROUP BY saga_id;
    CREATE TABLE charged (saga_id PRIMARY KEY, authorizations, open, captures, refunds) WITHOUT ROWID;
    INSERT INTO charged
    SELECT saga_id, sum(state <> 'DECLINED'), sum(state IN ('AUTHORIZED', 'CAPTURE_FAILED')),
           sum(state IN ('CAPTURED', 'REFUNDED')), sum(state = 'REFUNDED') + coalesce(refunds, 0)
    FROM payments LEFT JOIN given_back ON order_id = saga_id
    GROUP BY saga_id;
    CREATE TABLE posted (saga_id PRIMARY KEY, receivable_minor) WITHOUT ROWID;
    INSERT INTO posted
    SELECT coalesce(order_id, saga_id), sum(receivable_minor)
    FROM (
        SELECT saga_id, receivable_minor FROM ledger WHERE saga_id NOT IN (SELECT saga_id FROM manual_postings)
        UNION ALL
        SELECT saga_id, -amount_minor FROM return_refunds JOIN sagas USING (saga_id)
        WHERE state NOT IN ('CONFIRMED', 'CANCELLED_COMPENSATED') AND saga_id NOT IN (SELECT saga_id FROM ledger)
    ) LEFT JOIN returns ON return_id = saga_id
    GROUP BY coalesce(order_id, saga_id);
    CREATE TABLE delivered (saga_id PRIMARY KEY, parcels, live) WITHOUT ROWID;
    INSERT INTO delivered SELECT saga_id, count(*), sum(state = 'live') FROM parcels GROUP BY saga_id;
    CREATE TABLE charges (saga_id, what, amount_minor, currency);
    INSERT INTO charges
    SELECT saga_id, 'payment recorded', amount_minor, currency FROM payments
    UNION ALL SELECT saga_id, 'the gateway authorized', amount_minor, currency FROM authorizations
    UNION ALL SELECT saga_id, 'the gateway captured', amount_minor, currency FROM captures
    UNION ALL
    SELECT saga_id, 'the gateway refunded', amount_minor, currency FROM refunds
    WHERE saga_id NOT IN (SELECT order_id FROM refunding)
      AND id NOT IN (SELECT refund_id FROM return_refunds WHERE refund_id IS NOT NULL)
    UNION ALL SELECT saga_id, 'the ledger has', posted_minor, currency FROM ledger;
    CREATE TABLE held (saga_id, step, service, is_own, PRIMARY KEY (saga_id, step, service)) WITHOUT ROWID;
    INSERT INTO held
    SELECT saga_id, step, 'inventory', order_id IS NULL OR reservations.lines IS orders.lines
    FROM reservations LEFT JOIN orders ON order_id = saga_id WHERE reservations.state = 'RESERVED'
    UNION ALL
    SELECT saga_id, step, 'loyalty',
           order_id IS NULL OR points IS points_to_burn AND burns.customer_id IS orders.customer_id
    FROM burns LEFT JOIN orders ON order_id = saga_id WHERE burns.state = 'BURNED'
    UNION ALL SELECT saga_id, step, 'shipping', 1 FROM shipments WHERE state = 'BOOKED'
    UNION ALL SELECT saga_id, step, 'risk', 1 FROM validated
    UNION ALL
    SELECT saga_id, step, 'ledger', 1 FROM ledger
    WHERE posts > 0 AND reversals = 0 AND step NOT IN ('capture_or_void', 'refund_gateway')  -- payment's steps
    UNION ALL
    SELECT return_id, 'approve_return', 'checkout', order_id IS NOT NULL
    FROM returns LEFT JOIN orders USING (order_id) WHERE returns.state IN ('APPROVED', 'ARRIVED', 'COMPLETED');
    CREATE TABLE holding (
        saga_type, saga_version, step, service, holds, PRIMARY KEY (saga_type, saga_version, step, service)
    ) WITHOUT ROWID;
    INSERT INTO holding
    SELECT saga_type, saga_version, step, service, holds FROM steps WHERE holds IS NOT NULL;
    CREATE INDEX letters_by_saga ON letters (saga_id, service);
    CREATE INDEX parcels_by_saga ON parcels (saga_id);
    CREATE INDEX replies_by_saga ON replies (saga_id, step);
    ANALYZE;
"""
VIEWS = UNSETTLED + returns.VIEWS + payments.VIEWS + sacco.VIEWS + DERIVED


@contextmanager
def filled(
    origin: Sources, definitions: Mapping[tuple[str, int], SagaDefinition], advance: Callable[[int], None]
) -> Iterator[sqlite3.Connection]:
    """Yield the scratch database with everything read into it; its file is deleted afterwards.

    ``advance`` is called with the size of every batch of rows. Raises Unreadable.
    """
    with (
        TemporaryDirectory(prefix="baraza-audit-") as folder,
        closing(sqlite3.connect(Path(folder) / "audit.db", isolation_level=None)) as scratch,
    ):
        scratch.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;" + SCHEMA)
        scratch.execute("BEGIN")
        for table, read in _everything(origin, definitions):
            _insert(scratch, table, read, advance)
        scratch.execute("COMMIT")
        scratch.executescript(VIEWS)
        yield scratch


def _everything(
    origin: Sources, definitions: Mapping[tuple[str, int], SagaDefinition]
) -> Iterator[tuple[str, Iterable[Row]]]:
    services = services_of(definitions)
    yield "steps", steps(definitions)
    yield "provider_clocks", [(name, providers.now_s(url)) for name, url in origin.mobile_urls.items()]
    yield from sources.tables(origin, services)
    gateway, courier = origin.gateway_url, origin.courier_url
    if gateway:
        columns = ("id", "reference", "state", "amount_minor", "currency")
        yield "authorizations", _records(gateway, "authorization", columns)
        yield "captures", _records(gateway, "capture", ("id", "reference", "amount_minor", "currency"))
        yield "refunds", _records(gateway, "refund", ("id", "reference", "amount_minor", "currency"))
    if courier:
        yield "parcels", map(_parcel, providers.records(courier, "shipment"))
        yield "pickups", map(_pickup, providers.records(courier, "collection"))
        yield "pieces", (row for record in providers.records(courier, "collection") for row in _pieces(record))
    for name, url in origin.gateway_urls.items():
        for kind in payments.RECORDS[name]:
            yield "gateway_charges", map(partial(payments.charge, name, kind), providers.records(url, kind))
    for name, url in origin.mobile_urls.items():
        yield "provider_entries", sacco.entries(name, providers.entries(url))
    yield "begun", sources.begun(origin)
    if origin.kafka is not None:
        yield "dead_letters", sources.dead_letters(origin.kafka)


def steps(definitions: Mapping[tuple[str, int], SagaDefinition]) -> Iterator[Row]:
    """Yield a row for every step of every definition."""
    for (saga_type, version), definition in definitions.items():
        for step in definition.steps:
            yield saga_type, version, step.name, step.service, step.undone_by, step.holds


def _records(url: str, kind: str, fields: tuple[str, ...]) -> Iterator[Row]:
    for record in providers.records(url, kind):
        yield tuple(record[name] for name in fields)


def _parcel(record: Mapping[str, Any]) -> Row:
    """Return a parcel; the courier's records of an earlier release hold neither contents nor destination."""
    return record["id"], record["reference"], record["state"], _contents(record), record.get("destination")


def _pickup(record: Mapping[str, Any]) -> Row:
    """Return a parcel that the courier collects from a customer."""
    return record["id"], record["reference"], record["state"], _contents(record)


def _pieces(record: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what a parcel that arrived held, by product: how many good pieces, and how many others."""
    good, damaged = Counter[str](), Counter[str]()
    for piece in record.get("pieces") or ():
        (good if piece["condition"] == "good" else damaged)[piece["sku"]] += piece["quantity"]
    for sku in good.keys() | damaged.keys():
        yield record["id"], sku, good[sku], damaged[sku]


def _contents(record: Mapping[str, Any]) -> str | None:
    """Return the digest of what a parcel was booked with, as PostgreSQL makes it of an order's lines."""
    contents = record.get("contents")
    lines = contents and ",".join(f"{sku} {quantity}" for sku, quantity in sorted(contents))
    return lines and hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()


def _insert(scratch: sqlite3.Connection, table: str, read: Iterable[Row], advance: Callable[[int], None]) -> None:
    columns = len(scratch.execute(f"SELECT * FROM {table} LIMIT 0").description)  # noqa: S608 - our own table names
    statement = f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608
    iterator: Iterator[Any] = iter(read)
    while batch := list(islice(iterator, INSERT_ROWS)):
        scratch.executemany(statement, batch)
        advance(len(batch))
