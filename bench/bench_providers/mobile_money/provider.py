"""The provider inside of the process: the port's answers at once, within the limiter, and books of its own.

It decides by the request alone, as one outside does, and a repeated key gets the first answer. What it did is kept
here and written a few times a second, for the audit to compare. Payments that come in are the load's, which writes them
into the same books.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, Engine

from bench_providers.mobile_money.tables import PAY_OUT, QUESTION, REFUSAL, Entry, add_entries
from chassis.http.downstream import Unavailable
from chassis.postgres.transient import utc_now
from chassis.process.background import Task
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from chassis.values.json_text import compact
from chassis.wire.envelope import ALPHABET
from mobile_money import daraja_bodies, http_daraja, readings, tariffs
from mobile_money.lanes import LaneGate
from mobile_money.limiter import Limiter
from mobile_money.port import Capabilities, Page, Paid, Payout, Refused, Requested
from mobile_money.registry import Providers
from mobile_money.short_codes import ShortCode
from mobile_money.wiring import keep_answer

UNREGISTERED: Final = "25411"
"""How the phones begin that the provider does not know."""
SILENT: Final = "25412"
"""How the phones begin whose payouts it takes, and never says what became of them."""
FLOAT_MINOR: Final = 10**12
"""What the utility account has in the beginning: more than any run pays out."""
BULK: Final = "BULK"
RECEIPT_LETTERS: Final = 9
WRITTEN_EVERY_S: Final = 0.2
WRITTEN_MAX: Final = 5_000
LOCK: Final = 7_219_405_119
"""Any number that no task of mobile-money has."""


class Books:
    """What the provider did for all short codes of the process, and its answers by key. Thread-safe.

    Every answer is kept for as long as the process lives: a benchmark ends after minutes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, Proven] = {}
        self._unwritten: list[Entry] = []
        self._paid_minor: Counter[str] = Counter()

    def answered(self, key: str) -> Proven | None:
        """Return the answer that a key has already."""
        with self._lock:
            return self._answers.get(key)

    def enter(self, key: str, answer: Proven, entry: Entry) -> Proven:
        """Enter what is done under a key and return the answer; for a key that has one, do nothing and return that."""
        with self._lock:
            first = self._answers.setdefault(key, answer)
            if first is answer:
                self._unwritten.append(entry)
                self._paid_minor[entry.short_code] -= entry.amount_minor
        return first

    def note(self, entry: Entry) -> None:
        """Enter what moves no money."""
        with self._lock:
            self._unwritten.append(entry)

    def utility_minor(self, short_code: str) -> int:
        """Return what is left in a utility account."""
        with self._lock:
            return FLOAT_MINOR - self._paid_minor[short_code]

    def task(self) -> Task:
        """Return the task that writes the books."""
        return Task(name="write the provider's books", run=self.write, every_s=WRITTEN_EVERY_S, lock=LOCK)

    def write(self, tx: Connection) -> bool:
        """Write what was done since the last time, and return whether there is more."""
        with self._lock:
            entries, self._unwritten = self._unwritten[:WRITTEN_MAX], self._unwritten[WRITTEN_MAX:]
            has_more = bool(self._unwritten)
        add_entries(tx, entries)
        return has_more


class PayoutCharges:
    """What payouts cost by the tariff, which is read once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: list[tariffs.Tariff] | None = None

    def of(self, provider: str, amount_minor: int, at: datetime) -> int:
        """Return what a payout of this amount costs at this time."""
        if self._known is None:
            with self._engine.connect() as tx:
                self._known = tariffs.read(tx)
        return tariffs.charge_minor(self._known, provider, amount_minor, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderInProcess:
    """The ``Provider`` of one short code, without a network: each payout is proven by its answer."""

    code: ShortCode
    books: Books
    limiter: Limiter
    charges: PayoutCharges
    keep: Callable[[str, str, bytes], None]
    clock: Callable[[], datetime] = utc_now

    def capabilities(self, request: Requested) -> Capabilities:
        """Return what it promises about payouts."""
        return http_daraja.PAYOUTS

    def own_id(self, key: str) -> str:
        """Return our id of an attempt."""
        return readings.originator_of(key)

    def send(self, request: Requested, key: str) -> SendAnswer:
        """Pay once for a key, within the limit. Nothing else is benchmarked."""
        if not isinstance(request, Payout):
            raise Unavailable("the benchmark's provider only pays out", certain_no_effect=True)
        self.limiter.wait(is_bulk=request.lane == BULK)
        if request.phone.startswith(SILENT):
            own_id = self.own_id(key)
            return Accepted(provider_id=f"{self.code.provider}:{own_id}", reference=own_id)
        return self._refuse(key) if request.phone.startswith(UNREGISTERED) else self._pay(request, key)

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        """Return what became of an attempt; of a silent phone's, take the question within the limit."""
        if isinstance(request, Payout) and request.phone.startswith(SILENT):
            self.limiter.wait(is_bulk=True)
            self.books.note(self._entry(key, QUESTION, 0, self.clock()))
            raise Unavailable("queried; the answer comes by callback")
        return self.books.answered(key) or NotFound()

    def query_receipt(self, receipt: str) -> None:
        """Refuse: no receipt of the benchmark is large enough to be confirmed."""
        raise Unavailable("the benchmark's provider confirms no receipt", certain_no_effect=True)

    def query_balance(self) -> None:
        """Keep the balance as a callback of Daraja shows it."""
        if self.code.provider == daraja_bodies.PROVIDER:
            body = balance_body(self.books.utility_minor(self.code.short_code), self.clock())
            self.keep(self.code.name, daraja_bodies.BALANCE, body)

    def register(self) -> None:
        """Do nothing: the load knows where confirmations go."""

    def pull(self, begins_at: datetime, ends_at: datetime, offset: int) -> Page:
        """Return an empty page: no callback of the load is lost."""
        return Page(payments=(), next_offset=None)

    def _pay(self, request: Payout, key: str) -> Proven:
        now = self.clock()
        paid = Paid(
            receipt=receipt_of(key),
            amount_minor=request.amount_minor,
            completed_at=now.replace(microsecond=0),
            charge_minor=self.charges.of(self.code.provider, request.amount_minor, now),
        )
        answer = Proven(outcome=Outcome.SUCCEEDED, reference=paid.receipt, detail=paid.detail)
        return self.books.enter(key, answer, self._entry(key, PAY_OUT, -request.amount_minor, now))

    def _refuse(self, key: str) -> Proven:
        refused = Refused(reason="not_registered", code="2040", text="The phone is not registered.")
        answer = Proven(outcome=Outcome.REFUSED, detail=refused.detail)
        return self.books.enter(key, answer, self._entry(key, REFUSAL, 0, self.clock()))

    def _entry(self, key: str, kind: str, amount_minor: int, at: datetime) -> Entry:
        return Entry(
            provider=self.code.provider,
            short_code=self.code.short_code,
            receipt=receipt_of(key),
            kind=kind,
            amount_minor=amount_minor,
            own_id=self.own_id(key),
            at=at,
        )


def providers_at(codes: Iterable[ShortCode], books: Books, engine: Engine) -> Providers:
    """Return the providers of these short codes, all inside of this process. Nothing connects before the first call."""
    charges, keep = PayoutCharges(engine), partial(keep_answer, engine, utc_now)
    found, limiters = {}, {}
    for each in codes:
        limiter = limiters[each.short_code] = Limiter(each.name, each.calls_per_s, each.members_share)
        found[each.short_code] = ProviderInProcess(code=each, books=books, limiter=limiter, charges=charges, keep=keep)
    return Providers(by_short_code=dict(found), gate=LaneGate(engine), limiters=limiters)


def receipt_of(key: str) -> str:
    """Return the receipt of a payout: ten letters and digits, derived from its key."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest())
    return "P" + "".join(ALPHABET[number >> 5 * place & 31] for place in range(RECEIPT_LETTERS))


def balance_body(utility_minor: int, at: datetime) -> bytes:
    """Return the result of a balance query, as Daraja posts it."""
    shown = f"{readings.whole(utility_minor)}.00"
    accounts = f"Working Account|KES|0.00|0.00|0.00|0.00&Utility Account|KES|{shown}|{shown}|0.00|0.00"
    stamp = readings.stamp(at)
    parameters = [{"Key": "AccountBalance", "Value": accounts}, {"Key": "BOCompletedTime", "Value": int(stamp)}]
    result = {
        "ResultType": 0, "ResultCode": 0, "ResultDesc": "Accepted", "ConversationID": f"AG_{stamp}",
        "ResultParameters": {"ResultParameter": parameters},
    }  # fmt: skip
    return compact({"Result": result}).encode()
