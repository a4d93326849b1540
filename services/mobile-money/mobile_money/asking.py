"""What mobile-money asks providers without a message: lists of payments, receipts to confirm, and balances.

A task is one transaction, in which it takes what is due and says when it is due again. A question that the limit or the
provider refuses goes out at its next time; no number of questions decides anything.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection

from chassis.http.downstream import Unavailable, UnforeseenAnswer
from chassis.postgres.statement import Statement
from chassis.process.background import Task
from mobile_money.intake import Deciding, take_in
from mobile_money.known import prompts_by_reference
from mobile_money.port import Listed
from mobile_money.receipts import Arrival, Door
from mobile_money.registry import Providers
from mobile_money.short_codes import ShortCode, ShortCodes

PULL_EVERY_S: Final = 60.0
PULLED_AGAIN: Final = timedelta(minutes=10)
"""So much before the last pull is listed again: a payment may be listed late."""
PULL_BACK_MAX: Final = timedelta(hours=48)
PAGES_MAX: Final = 4
"""Of one pull, which holds a transaction meanwhile; the next one goes on from there."""
REGISTER_EVERY_S: Final = 30.0
BALANCE_EVERY_S: Final = 60.0
CONFIRM_EVERY_S: Final = 5.0
CONFIRMED_MAX: Final = 20
"""Questions about receipts of one run, far below the limit."""
CONFIRM_AGAIN: Final = (
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
)
LOCK: Final = 0x6D6F6E65_00010000
"""The first advisory lock of these tasks; each short code has some of its own."""

REGISTERED: Final = Statement("""
    SELECT 1 AS known FROM pulls WHERE short_code = %(short_code)s AND registered_at IS NOT NULL
""")
REGISTER: Final = Statement("""
    INSERT INTO pulls (short_code, registered_at) VALUES (%(short_code)s, %(now)s)
    ON CONFLICT (short_code) DO UPDATE SET registered_at = excluded.registered_at
""")
PULLED: Final = Statement("SELECT pulled_until FROM pulls WHERE short_code = %(short_code)s")
PULL: Final = Statement("""
    INSERT INTO pulls (short_code, pulled_until) VALUES (%(short_code)s, %(until)s)
    ON CONFLICT (short_code) DO UPDATE SET pulled_until = excluded.pulled_until
""")
UNCONFIRMED: Final = Statement("""
    SELECT saga_id, receipt, queries FROM receipts
    WHERE short_code = %(short_code)s AND state = 'UNCONFIRMED' AND query_at <= %(now)s
    ORDER BY query_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
""")
QUERIED: Final = Statement("""
    UPDATE receipts SET queries = queries + 1, query_at = %(again_at)s WHERE saga_id = %(saga_id)s
""")

log = structlog.get_logger()


def tasks(
    short_codes: ShortCodes, providers: Providers, needed: Deciding, clock: Callable[[], datetime]
) -> tuple[Task, ...]:
    """Return the tasks of all short codes."""
    found: list[Task] = []
    for number, each in enumerate(short_codes.short_codes):
        asking = Asking(each, providers, needed, clock)
        lock = LOCK + 16 * number
        found += [
            Task(name=f"register {each.name}", run=asking.register, every_s=REGISTER_EVERY_S, lock=lock + 3),
            Task(name=f"pull {each.name}", run=asking.pull, every_s=PULL_EVERY_S, lock=lock),
            Task(name=f"balance {each.name}", run=asking.balance, every_s=BALANCE_EVERY_S, lock=lock + 1),
            Task(name=f"confirm {each.name}", run=asking.confirm, every_s=CONFIRM_EVERY_S, lock=lock + 2),
        ]
    return tuple(found)


class Asking:
    """The questions about one short code."""

    def __init__(
        self, short_code: ShortCode, providers: Providers, needed: Deciding, clock: Callable[[], datetime]
    ) -> None:
        self._code = short_code
        self._providers = providers
        self._needed = needed
        self._clock = clock

    def register(self, tx: Connection) -> bool:
        """Tell the provider once where confirmations of payments go."""
        values = {"short_code": self._code.short_code}
        if not REGISTERED.rows(tx, values) and self._ask(self._providers.of(self._code.short_code).register):
            REGISTER.run(tx, {**values, "now": self._clock()})
        return False

    def pull(self, tx: Connection) -> bool:
        """List the payments since the last time, and take in what is new. Its events are published by a sweep."""
        now, digits = self._clock(), self._code.short_code
        rows = PULLED.rows(tx, {"short_code": digits})
        begins_at = now - PULL_BACK_MAX
        if rows and rows[0].pulled_until is not None:
            begins_at = max(begins_at, rows[0].pulled_until - PULLED_AGAIN)
        listed: list[Listed] = []
        offset, until = 0, now
        try:
            for _ in range(PAGES_MAX):
                page = self._providers.of(digits).pull(begins_at, now, offset)
                listed += page.payments
                if page.next_offset is None:
                    break
                offset = page.next_offset
            else:
                until = max((each.completed_at for each in listed), default=begins_at)
        except (Unavailable, UnforeseenAnswer, ValueError) as error:
            log.warning("Payments could not be listed; they are the next time.", name=self._code.name, error=str(error))
            return False
        take_in(tx, self._arrivals(tx, listed, now), self._needed.codec, now=now)
        PULL.run(tx, {"short_code": digits, "until": until})
        return until < now and until > begins_at

    def balance(self, _tx: Connection) -> bool:
        """Ask for the balances; they come by callback, or are kept as one."""
        self._ask(self._providers.of(self._code.short_code).query_balance)
        return False

    def confirm(self, tx: Connection) -> bool:
        """Ask for receipts that only a callback has brought; the answers come by callback."""
        now = self._clock()
        values = {"short_code": self._code.short_code, "now": now, "limit": CONFIRMED_MAX}
        for row in UNCONFIRMED.rows(tx, values):
            again_at = now + CONFIRM_AGAIN[min(row.queries, len(CONFIRM_AGAIN) - 1)]
            QUERIED.run(tx, {"saga_id": row.saga_id, "again_at": again_at})
            self._ask(partial(self._providers.of(self._code.short_code).query_receipt, str(row.receipt)))
        return False

    def _ask(self, question: Callable[[], None]) -> bool:
        """Ask, and return whether the provider has taken the question."""
        try:
            question()
        except (Unavailable, UnforeseenAnswer) as error:
            log.info("A question was not taken; it goes out again.", name=self._code.name, error=str(error))
            return False
        return True

    def _arrivals(self, tx: Connection, listed: list[Listed], now: datetime) -> list[Arrival]:
        code = self._code
        references = {(code.short_code, each.reference.strip().upper()) for each in listed if each.reference}
        prompts = prompts_by_reference(tx, references)
        found = []
        for each in listed:
            prompt = prompts.get((code.short_code, (each.reference or "").strip().upper()))
            found.append(
                Arrival(
                    provider=code.provider,
                    short_code=code.short_code,
                    receipt=each.receipt,
                    currency=code.currency,
                    amount_minor=each.amount_minor,
                    completed_at=each.completed_at,
                    door=Door.PULL,
                    source_id=f"pull {now.isoformat()}",
                    reference=each.reference,
                    collection_id=None if prompt is None else prompt.saga_id,
                    payer_hash=self._needed.payer_hash(each.payer),
                    received_at=now,
                )
            )
        return found
