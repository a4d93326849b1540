"""What open questions cost: payouts of whose outcome the provider says nothing, each queried within the limit.

One payout is requested; the others are copies of its rows in mobile-money alone, so this stack is not audited.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg

from baraza.bench.copies import Copied, copy_rows
from baraza.bench.load import Entry
from baraza.bench.members import MONEY
from baraza.bench.orders import Order
from baraza.bench.owner import owner_connection
from baraza.bench.session import RAMP_S, Session
from baraza.bench.usage import Usage
from baraza.terminal import Refusal, notify

if TYPE_CHECKING:
    from baraza.bench.modes import Run

QUESTIONS: Final = 100_000
SPREAD_S: Final = 3_600
"""Each is queried once in so many seconds, as one that is in doubt for an hour: more than the provider allows."""
QUERIES: Final = 6
"""How often each was queried before; the next waits of the ladder are an hour and longer."""
BEGINS_WITHIN_S: Final = 60.0
POLL_S: Final = 0.1
TABLES: Final = (
    Copied(MONEY, "effects", "saga_id"),
    Copied(MONEY, "payouts", "saga_id"),
    Copied(MONEY, "awaited_steps", "saga_id"),
    Copied(MONEY, "attempts", "saga_id", ("key", "provider_id")),
)
SENT: Final = "SELECT count(*) FROM effects WHERE step = 'send_payout' AND state = 'SENT' AND saga_id = %s"
TAKEN: Final = "SELECT count(*) FROM money_entries WHERE kind = 'question'"
TRIGGERS: Final = """
    UPDATE awaited_steps
    SET payload = decode(replace(encode(payload, 'hex'), encode(%(original)s::bytea, 'hex'),
                                 encode(convert_to(saga_id, 'UTF8'), 'hex')), 'hex'),
        query_at = now() + random() * make_interval(secs => %(spread_s)s), queries = %(queries)s
    WHERE saga_id <> %(text)s
"""
"""A trigger holds the id of its saga, and every id has the same length."""


def measure(run: Run, running: Session, entry: Entry, request: Order) -> dict[str, Any]:
    """Measure an idle stack, let so many payouts be in doubt, and measure what their questions cost besides."""
    with closing(entry.connect()) as client:
        (saga_id,) = client.submit([request])
    assert saga_id is not None, "what is not accepted is refused by the client"
    _wait_until_sent(running, saga_id)
    time.sleep(RAMP_S)
    idle, _ = _used(run, running)
    _fill(running, saga_id)
    time.sleep(RAMP_S)
    busy, questions = _used(run, running)
    cores = {name: used_s / busy.seconds - idle.stack_s[name] / idle.seconds for name, used_s in busy.stack_s.items()}
    notify(f"{QUESTIONS} open questions: {questions / busy.seconds:.1f} a second, {sum(cores.values()):.3f} cores")
    return {
        "open_questions": QUESTIONS,
        "questions_per_s": round(questions / busy.seconds, 1),
        "cores_for_open_questions": round(sum(cores.values()), 3),
        "cores_of_mobile_money_for_open_questions": round(cores[MONEY], 3),
    }


def _used(run: Run, running: Session) -> tuple[Usage, int]:
    """Return what was used while the run's seconds passed, and how many questions the provider took."""
    before, taken = running.meter.read(), _count(running, TAKEN)
    time.sleep(run.seconds)
    return Usage.between(before, running.meter.read()), _count(running, TAKEN) - taken


def _wait_until_sent(running: Session, saga_id: str) -> None:
    deadline_s = time.monotonic() + BEGINS_WITHIN_S
    while not _count(running, SENT, saga_id):
        if time.monotonic() > deadline_s:
            raise Refusal(f"The payout {saga_id} is not sent after {BEGINS_WITHIN_S:.0f} s; see its timeline.")
        time.sleep(POLL_S)


def _fill(running: Session, saga_id: str) -> None:
    """Copy the rows of the payout, each copy under an id of its own."""
    notify(f"Copying a payout in doubt {QUESTIONS} times.")
    with owner_connection(running.stack, MONEY) as connection:
        for copied in TABLES:
            copy_rows(connection, copied, range(1, QUESTIONS + 1))
        values = {"original": saga_id.encode(), "text": saga_id, "spread_s": SPREAD_S, "queries": QUERIES}
        connection.execute(TRIGGERS, values)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM (ANALYZE)")


def _count(running: Session, query: Any, *values: str) -> int:
    connection: psycopg.Connection[Any]
    with owner_connection(running.stack, MONEY) as connection:
        row = connection.execute(query, values).fetchone()
    return int(row[0]) if row else 0
