"""Transfers as steps of a saga over Kafka: approved manual postings, each held and then posted.

The postings stand in the ledger's database as two people have approved them. Their events are published while the
ledger is stopped, so that it finds all of them when it starts, and its own batches are what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, Final

import psycopg

from baraza.bench.books.cases import CURRENCY
from baraza.bench.copies import LEDGER
from baraza.bench.owner import OWNER
from baraza.bench.session import Session
from baraza.terminal import Refusal, notify
from chassis.postgres.bounds import MIGRATING
from chassis.postgres.transient import utc_now
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import Relay, producer
from chassis.wire.codec import Codec
from chassis.wire.envelope import headers, new_id, new_traceparent
from chassis.wire.registry import RETRIES, RemoteRegistry
from ledger.manual_api import SAGA_TYPE, SAGA_VERSION
from ledger.outgoing import EVENTS, SOURCE
from messages.contract import name_of
from messages.ledger import ManualPostingApproved, PostingEntry

POSTINGS: Final = 20_000
AMOUNT_MINOR: Final = 5
PAIR: Final = (f"sacco:bank:{CURRENCY}", f"sacco:fees:{CURRENCY}")
PROPOSER, APPROVER = "bench-1", "bench-2"
ENDS_WITHIN_S: Final = 300.0
FLUSH_S: Final = 60.0
POLL_S: Final = 0.5

ADD = """
    INSERT INTO manual_postings (posting_id, key, accounts, amounts, currencies, effective_at, reason, proposed_by,
                                 proposed_at, state, decided_by, decided_at, decision_reason)
    SELECT id, id, %(accounts)s, %(amounts)s, %(currencies)s, %(at)s, 'bench', %(proposer)s, %(at)s, 'APPROVED',
           %(approver)s, %(at)s, 'bench'
    FROM unnest(%(ids)s::text[]) AS id
"""
OPEN = "SELECT count(*) FROM manual_postings WHERE state = 'APPROVED'"
BOOKED = """
    SELECT count(*), extract(epoch FROM max(booked_at) - min(booked_at))::float8 FROM transfers
    WHERE step IN ('hold_manual_posting', 'post_manual_posting')
"""


def measure(session: Session, *, count: int = POSTINGS) -> dict[str, Any]:
    """Return transfers a second, from the first hold to the last post. Raises Refusal where some do not end."""
    running = session.stack
    ids, now = [new_id() for _ in range(count)], utc_now()
    replicas = [name for name in session.services() if name == LEDGER or name.startswith(f"{LEDGER}-")]
    for name in replicas:
        running.stack.stop(name)
    url = running.database_url(LEDGER, OWNER)
    with closing(psycopg.connect(url, autocommit=True, **MIGRATING.arguments)) as connection:
        _add(connection, ids, now)
        _publish(session, ids, now)
        for name in replicas:
            running.stack.start(name)
        _wait(connection)
        booked, seconds = connection.execute(BOOKED).fetchone() or (0, 0.0)
    per_s = booked / max(seconds, 1e-9)
    notify(f"over Kafka: {booked} transfers, {per_s:.0f} a second")
    return {"over_kafka_per_s": round(per_s)}


def _add(connection: psycopg.Connection[tuple[Any, ...]], ids: Sequence[str], now: datetime) -> None:
    values = {
        "ids": list(ids), "accounts": list(PAIR), "amounts": [AMOUNT_MINOR, -AMOUNT_MINOR],
        "currencies": [CURRENCY, CURRENCY], "at": now, "proposer": PROPOSER, "approver": APPROVER,
    }  # fmt: skip
    connection.execute(ADD, values)


def _publish(session: Session, ids: Sequence[str], now: datetime) -> None:
    codec = Codec(RemoteRegistry(session.stack.registry_url, retries=RETRIES))
    relay = Relay(producer(session.stack.kafka_login(LEDGER), client_id="bench"))
    for saga_id in ids:
        event = _approved(saga_id, now)
        row = OutboxRow(
            id=event.message_id,
            topic=EVENTS,
            saga_id=saga_id,
            type=name_of(ManualPostingApproved),
            payload=codec.encode(EVENTS, event),
            headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
            partition=None,
        )
        relay.publish([row])
    relay.flush(FLUSH_S)


def _approved(saga_id: str, now: datetime) -> ManualPostingApproved:
    debited, credited = PAIR
    return ManualPostingApproved(
        message_id=new_id(),
        saga_id=saga_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=now,
        entries=(
            PostingEntry(account=debited, amount_minor=AMOUNT_MINOR, currency=CURRENCY),
            PostingEntry(account=credited, amount_minor=-AMOUNT_MINOR, currency=CURRENCY),
        ),
        effective_at=now,
        reason="bench",
        proposed_by=PROPOSER,
        proposed_at=now,
        approved_by=APPROVER,
        approval_reason="bench",
    )


def _wait(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    deadline_s = time.monotonic() + ENDS_WITHIN_S
    while True:
        (count,) = connection.execute(OPEN).fetchone() or (0,)
        if not count:
            return
        if time.monotonic() > deadline_s:
            raise Refusal(f"{count} manual postings have not ended within {ENDS_WITHIN_S:.0f} s; see their timelines.")
        time.sleep(POLL_S)
