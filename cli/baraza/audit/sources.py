"""What the audit reads: each service's database with a read-only login, the providers' records, the dead letters.

Rows are streamed, and PostgreSQL computes the sums, so that a million sagas can be audited. It must never write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, LiteralString

import psycopg

from baraza.audit import ledger, payments, returns
from baraza.audit.providers import Unreadable
from baraza.audit.sacco import reading as sacco
from baraza.system import broker
from baraza.system.running import Running
from chassis.postgres.bounds import AUDITING
from chassis.wire.kafka import KafkaLogin
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.model.saga import SagaDefinition
from stack.providers import COURIER, GATEWAY, MOBILE_MONEY, PROVIDERS, callers
from stack.selection import is_installed

FETCH_ROWS = 20_000
"""Rows in memory at a time."""
KAFKA_TIMEOUT_S = 10.0
DEAD_LETTER_SUFFIX = ".dlq"

AUDITOR = "audit"
"""The login that may read every database and every dead letter, and write nothing."""
CHECKOUT, MERCHANT, TRACKER = "checkout", "merchant", "saga_tracker"
ALSO_READ = (*filter(is_installed, (CHECKOUT, MERCHANT)), TRACKER)
"""They are read whether they own a step or not."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Connection strings of the services' databases by service name, and the addresses of the rest.

    ``kafka`` is None where there is no broker and hence no dead letter. A provider's address is empty
    where it is not started, and was never called. ``gateway_urls`` are the gateways of merchants' payments that show
    their own records, ``mobile_urls`` the providers of mobile money that show their own books.
    """

    databases: Mapping[str, str]
    gateway_url: str
    courier_url: str
    kafka: KafkaLogin | None
    gateway_urls: Mapping[str, str] = field(default_factory=dict)
    mobile_urls: Mapping[str, str] = field(default_factory=dict)


def sources_of(stack: Running) -> Sources:
    """Return where the audit of a running stack reads. Raises Unreadable."""
    services = (*services_of(DEFINITIONS), *ALSO_READ)
    urls = {provider: stack.url(provider) if stack.is_started(provider) else "" for provider in PROVIDERS}
    found = Sources(
        databases={service: stack.database_url(service, AUDITOR) for service in services},
        gateway_url=urls[GATEWAY],
        courier_url=urls[COURIER],
        kafka=stack.kafka_login(AUDITOR),
        gateway_urls={name: urls[name] for name in payments.RECORDS if urls.get(name)},
        mobile_urls={name: urls[name] for name in MOBILE_MONEY if urls.get(name)},
    )
    for provider in (GATEWAY, COURIER):
        if not urls[provider] and any(_has_effects(found, service) for service in callers(provider)):
            raise Unreadable(f"The audit compares the records of the {provider}. {stack.absence(provider)}")
    return found


def _has_effects(sources: Sources, service: str) -> bool:
    with closing(connect(sources, service)) as connection, _readable(f"What {service} has done"):
        return connection.execute("SELECT EXISTS (SELECT FROM effects)").fetchone() == (True,)


def services_of(definitions: Mapping[tuple[str, int], SagaDefinition]) -> tuple[str, ...]:
    """Return every service that owns a step and is installed, each once."""
    owners = dict.fromkeys(service for definition in definitions.values() for service in definition.services)
    return tuple(filter(is_installed, owners))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """A query on one service's database, and the scratch table for its rows.

    It is skipped where the database does not have the table ``only_with``.
    """

    service: str
    table: str
    query: str
    only_with: str | None = None


def extracts(services: Iterable[str]) -> Iterator[Extract]:
    """Yield every extract of the databases of the saga's ``services``, of checkout and of the tracker.

    The extracts of one service follow one another, so that they can be read from one snapshot.
    """
    steps_of = tuple(services)
    for service in dict.fromkeys((*steps_of, *ALSO_READ)):
        yield Extract(service=service, table="outbox", query=OUTBOX.format(service=service))
        if service != TRACKER:
            yield Extract(service=service, table="deferred", query=DEFERRED.format(service=service))
        if service in steps_of:
            yield Extract(service=service, table="effects", query=EFFECTS.format(service=service))
            yield Extract(service=service, table="strays", query=STRAYS.format(service=service))
        for owner, table, query in OWN_TABLES:
            if owner == service:
                yield Extract(service=service, table=table, query=query)
        for owner, table, query, source in (*RECORDS_IN_PROCESS, *returns.TABLES, *payments.TABLES, *sacco.TABLES):
            if owner == service:
                yield Extract(service=service, table=table, query=query, only_with=source)


OUTBOX = "SELECT '{service}', id, aggregateid FROM outbox"
EFFECTS = """
    SELECT saga_id, step, '{service}', state FROM effects WHERE step NOT LIKE '%:undo' AND step NOT LIKE '%:stray:%'
"""
"""Without the undos whose outcome comes later: each has an effect of its own, and its step is UNDONE by it."""
STRAYS = "SELECT saga_id, step, '{service}', state FROM effects WHERE step LIKE '%:stray:%'"
"""The undos of what a provider did that belongs to no step."""
DEFERRED = "SELECT '{service}', message_id, saga_id, due_at IS NULL FROM deferred"

SAGAS = """
    SELECT saga_id, saga_type, saga_version, state, reason, floor(extract(epoch FROM now() - updated_at) / 86400)::int,
           awaits_since IS NOT NULL
    FROM sagas
"""
"""The last columns: for how many whole days nothing has happened to the saga, and whether it waits for an outcome that
comes later."""

ORDERS = """
    SELECT order_id, state, customer_id, payable_minor, points_to_burn,
           (SELECT md5(string_agg(line ->> 'sku' || ' ' || (line ->> 'quantity'), ','
                                  ORDER BY line ->> 'sku' COLLATE "C"))
            FROM jsonb_array_elements(lines) AS line),
           currency, total_minor,
           (SELECT sum((line ->> 'quantity')::bigint * (line ->> 'unit_price_minor')::bigint)::bigint
            FROM jsonb_array_elements(lines) AS line),
           coalesce(rate_points, 1), coalesce(rate_minor, 1), destination
    FROM orders
"""

PAYMENTS = "SELECT saga_id, step, state, amount_minor, currency FROM payments"

RESERVATIONS = """
    SELECT saga_id, step, state,
           (SELECT md5(string_agg(sku || ' ' || quantity, ',' ORDER BY sku COLLATE "C"))
            FROM unnest(skus, quantities) AS line (sku, quantity))
    FROM reservations
"""

STOCK = """
    SELECT sku, received, on_hand, coalesce(reserved, 0), coalesce(moved, 0)
    FROM stock
    FULL JOIN (SELECT sku, sum(units)::bigint AS moved FROM stock_movements GROUP BY sku) AS entered USING (sku)
    FULL JOIN (SELECT line.sku, sum(line.quantity)::bigint AS reserved
               FROM reservations, unnest(skus, quantities) AS line (sku, quantity)
               WHERE state = 'RESERVED'
               GROUP BY line.sku) AS live USING (sku)
"""

BURNS = "SELECT saga_id, step, customer_id, points, state FROM burns"

ACCOUNTS = """
    SELECT customer_id, granted, balance, coalesce(burned, 0), coalesce(moved, 0)
    FROM accounts
    FULL JOIN (SELECT customer_id, sum(points)::bigint AS moved FROM account_movements GROUP BY customer_id) AS entered
        USING (customer_id)
    FULL JOIN (SELECT customer_id, sum(points)::bigint AS burned
               FROM burns
               WHERE state = 'BURNED'
               GROUP BY customer_id) AS live USING (customer_id)
"""

SHIPMENTS = "SELECT saga_id, step, state, tracking_number FROM shipments"

LEDGER = """
    SELECT saga_id, step, sum(greatest(amount_minor, 0))::bigint, sum(-least(amount_minor, 0))::bigint,
           coalesce(sum(amount_minor) FILTER (WHERE code = 'gateway_receivable' AND chart = 'shop'), 0)::bigint,
           coalesce(sum(amount_minor) FILTER (
               WHERE code = 'gateway_receivable' AND chart = 'shop' AND transfers.kind <> 'CORRECTION'), 0)::bigint,
           coalesce(sum(amount_minor) FILTER (WHERE code = 'points_liability' AND transfers.kind <> 'CORRECTION'), 0)
           ::bigint,
           count(DISTINCT transfers.id) FILTER (WHERE transfers.kind <> 'CORRECTION'),
           count(DISTINCT transfers.id) FILTER (WHERE transfers.kind = 'CORRECTION'),
           min(currency), count(DISTINCT currency)
    FROM transfers
    JOIN transfer_entries ON transfer_id = transfers.id
    LEFT JOIN accounts ON accounts.id = account_id
    WHERE saga_id IS NOT NULL AND NOT is_hold
    GROUP BY saga_id, step
"""
"""What the steps of sagas have booked; what they hold is no entry yet."""

MANUAL_POSTINGS = "SELECT posting_id, state, proposed_by, decided_by FROM manual_postings"

MANUAL_TRANSFERS = """
    SELECT saga_id, count(*) FILTER (WHERE kind = 'POST') - count(*) FILTER (WHERE kind = 'CORRECTION')
    FROM transfers
    WHERE step IN ('hold_manual_posting', 'post_manual_posting')
    GROUP BY saga_id
"""
"""How many transfers of each manual posting stand, corrections subtracted."""

GATEWAY_AUTHORIZATIONS = "SELECT id, reference, state, amount_minor, NULL FROM gateway_records"

GATEWAY_CAPTURES = """
    SELECT id || ' ' || number, reference, captured_minor / captures, NULL
    FROM gateway_records, generate_series(1, captures) AS number
"""

GATEWAY_REFUNDS = """
    SELECT id || ' ' || number, reference, refunded_minor / refunds, NULL
    FROM gateway_records, generate_series(1, refunds) AS number
"""

COURIER_SHIPMENTS = "SELECT id, reference, state, NULL, NULL FROM courier_records"

REPLIES = "SELECT saga_id, step FROM timeline WHERE kind = 'reply' AND step IS NOT NULL AND detail IS NULL"
"""Replies of services that undid something; a reply without anything to undo has a detail."""

CONSUMED = "SELECT topic, partition, next_offset FROM consumed_offsets"

LETTERS = 'SELECT topic, partition, "offset", saga_id, service, open, resolution FROM dead_letters'

RESOLUTIONS = """
    SELECT acted.saga_id, proposed.actor, acted.actor
    FROM operator_log AS acted
    LEFT JOIN operator_log AS proposed ON proposed.plan_id = acted.plan_id AND proposed.act = 'PROPOSE'
    WHERE acted.act LIKE 'RESOLVE%' AND acted.saga_id IS NOT NULL
"""

OWN_TABLES = (
    (TRACKER, "sagas", SAGAS),
    (TRACKER, "replies", REPLIES),
    (TRACKER, "consumed", CONSUMED),
    (TRACKER, "letters", LETTERS),
    (TRACKER, "resolutions", RESOLUTIONS),
    (CHECKOUT, "orders", ORDERS),
    ("payment", "payments", PAYMENTS),
    ("inventory", "reservations", RESERVATIONS),
    ("inventory", "stock", STOCK),
    ("loyalty", "burns", BURNS),
    ("loyalty", "accounts", ACCOUNTS),
    ("shipping", "shipments", SHIPMENTS),
    ("ledger", "ledger", LEDGER),
    ("ledger", "manual_postings", MANUAL_POSTINGS),
    ("ledger", "manual_transfers", MANUAL_TRANSFERS),
    ("ledger", "ledger_counts", ledger.COUNTS),
    *(("ledger", "ledger_differences", query) for query in (*ledger.DIFFERENCES, *ledger.DIFFERENCES_FROM_SAGAS)),
)

RECORDS_IN_PROCESS = (
    ("payment", "authorizations", GATEWAY_AUTHORIZATIONS, "gateway_records"),
    ("payment", "captures", GATEWAY_CAPTURES, "gateway_records"),
    ("payment", "refunds", GATEWAY_REFUNDS, "gateway_records"),
    ("payment", "gateway_charges", payments.CHARGES_IN_PROCESS, "merchant_charges"),
    ("shipping", "parcels", COURIER_SHIPMENTS, "courier_records"),
    (sacco.MONEY, "provider_entries", sacco.ENTRIES_IN_PROCESS, "money_entries"),
)
"""The records of a benchmark's providers inside of the process, by service, each with the table that stores them.

The records of the providers outside are read as well; what is in neither was never done. Those inside of the process
keep neither currency, contents nor destination: nothing leaves the process in which these could change.
"""


def connect(sources: Sources, service: str) -> psycopg.Connection[Row]:
    """Connect to a service's database, for reading only. Raises Unreadable."""
    try:
        connection = psycopg.connect(sources.databases[service], **AUDITING.arguments)
    except KeyError:
        raise Unreadable(f"The stack has no database for {service}, but a saga has steps there.") from None
    except psycopg.OperationalError as error:
        raise Unreadable(
            f"The database of {service} cannot be read ({_first_line(error)}). Run ./baraza status."
        ) from error
    connection.read_only = True
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return connection


def tables(sources: Sources, services: Iterable[str]) -> Iterator[tuple[str, Iterator[Row]]]:
    """Yield every table's name with its rows, which must be read before the next name; a service's from one snapshot.

    Raises Unreadable.
    """
    for service, listed in groupby(extracts(services), key=lambda extract: extract.service):
        with closing(connect(sources, service)) as connection:
            for extract in listed:
                if extract.only_with is None or _has_table(connection, extract.only_with):
                    yield extract.table, _rows(connection, extract)


def begun(sources: Sources) -> Iterator[Row]:
    """Yield what merchants have requested by now: payment and saga. It is read after everything else.

    Raises Unreadable.
    """
    if MERCHANT not in sources.databases:
        return
    with closing(connect(sources, MERCHANT)) as connection:
        if _has_table(connection, "worker_slots"):
            yield from _rows(connection, Extract(service=MERCHANT, table="begun", query=payments.BEGUN))


def _has_table(connection: psycopg.Connection[Row], table: str) -> bool:
    with _readable(table):
        return connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,)


def _rows(connection: psycopg.Connection[Row], extract: Extract) -> Iterator[Row]:
    with _readable(f"{extract.table} of {extract.service}"), connection.cursor(name="audit") as cursor:
        cursor.itersize = FETCH_ROWS
        yield from cursor.execute(extract.query)


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Raise Unreadable where PostgreSQL fails in the block."""
    try:
        yield
    except psycopg.Error as error:
        raise Unreadable(f"{what} cannot be read: {_first_line(error)}. Run ./baraza status.") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def dead_letters(kafka: KafkaLogin) -> Iterator[tuple[str, int, int, str]]:
    """Yield every dead letter as (topic, partition, offset, saga id), up to the present end of the topics."""
    from confluent_kafka import TopicPartition

    watermarks = broker.watermarks(kafka, lambda topic: topic.endswith(DEAD_LETTER_SUFFIX))
    consumer = broker.consumer(kafka)
    try:
        for (topic, partition), (low, high) in watermarks.items():
            if low < high:
                consumer.assign([TopicPartition(topic, partition, low)])
                yield from _until(consumer, high)
    finally:
        consumer.close()


def _until(consumer: Any, end: int) -> Iterator[tuple[str, int, int, str]]:
    position = 0
    while position < end:
        message = consumer.poll(KAFKA_TIMEOUT_S)
        if message is None or message.error():
            raise Unreadable(f"The dead letters could not be read to their end at {end}. Run ./baraza status.")
        position = message.offset() + 1
        yield message.topic(), message.partition(), message.offset(), (message.key() or b"").decode(errors="replace")


OPEN_ORDERS, OPEN_RETURNS = "orders that checkout waits for", "returns that checkout waits for"
RETURNS_OPEN = "SELECT count(*) FROM returns WHERE decided_at IS NULL"
PARKED = """
    SELECT count(*) FROM sagas
    WHERE saga_type = %s AND (state IN ('NEEDS_REVIEW', 'IN_DOUBT', 'INCIDENT') OR awaits_since IS NOT NULL)
"""
UNDER_WAY = (
    (TRACKER, "sagas under way", "SELECT count(*) FROM sagas WHERE state = 'PENDING' AND awaits_since IS NULL"),
    (CHECKOUT, OPEN_ORDERS, "SELECT count(*) FROM orders WHERE state = 'PENDING'"),
    (sacco.MONEY, "callbacks to be decided about", "SELECT count(*) FROM raw_callbacks WHERE fate IS NULL"),
)
OUTBOX_ROWS = "SELECT count(*) FROM outbox"
DUE_ROWS = "SELECT count(*) FROM deferred WHERE due_at IS NOT NULL"


def under_way(sources: Sources, services: Iterable[str]) -> dict[str, int]:
    """Count what still moves, by its description; empty when nothing moves. Raises Unreadable."""
    found: dict[str, int] = {}
    for service in (*dict.fromkeys((*services, CHECKOUT)), TRACKER):
        queries = [(what, query) for owner, what, query in UNDER_WAY if owner == service]
        queries.append((f"messages in the outbox of {service}", OUTBOX_ROWS))
        if service != TRACKER:
            queries.append((f"messages to be retried by {service}", DUE_ROWS))
        with closing(connect(sources, service)) as connection:
            found |= {what: _count(connection, query) for what, query in queries}
            if service == CHECKOUT and _has_table(connection, "returns"):
                found[OPEN_RETURNS] = _count(connection, RETURNS_OPEN)
            if service == TRACKER:
                # An order that is parked, or waits for an outcome that comes later, does not move. Nor does a return.
                found[OPEN_ORDERS] -= _count(connection, PARKED, "order")
                found[OPEN_RETURNS] = found.get(OPEN_RETURNS, 0) - _count(connection, PARKED, "return_order")
    return {what: count for what, count in found.items() if count > 0}


def _count(connection: psycopg.Connection[Row], query: LiteralString, *values: str) -> int:
    with _readable("What still moves"):
        row = connection.execute(query, values).fetchone()
    return int(row[0]) if row else 0
