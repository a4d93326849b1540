"""The benchmark of merchants' payments: with the gateways inside of payment, and with their simulators over HTTP."""

from __future__ import annotations

import json
import math
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from baraza.audit.sources import connect, sources_of
from baraza.bench import merchants
from baraza.bench.follower import PaymentFollower
from baraza.bench.load import Entry
from baraza.bench.merchants import MerchantClient
from baraza.bench.orders import Order
from baraza.bench.session import Session
from baraza.percentiles import percentile
from baraza.terminal import notify
from chassis.wire.envelope import new_id
from stack.services import EVERY, REQUESTS_PER_S, workers

if TYPE_CHECKING:
    from baraza.bench.modes import Run

CONNECTIONS: Final = 32
REPEATED_REQUESTS, REPEATED_KEYS = 10_000, 100
CONFLICT: Final = 409
TRIES_MAX: Final = 50
CALLS_PER_S: Final = "100000"
ENVIRONMENT: Final = {
    "merchant": {"BARAZA_REQUESTS_PER_S_MERCHANT": CALLS_PER_S},
    EVERY: {REQUESTS_PER_S: CALLS_PER_S},
}
"""A caller's limit, and that of an account at a gateway, would be what is measured."""
STRIPE, BOTH = ("USD",), ("USD", "EUR")
"""The currencies of the merchants; euros go to Adyen."""
SIZED_PER_S: Final = 10_000
BUSY_CORE, BUSY_PROCESS = 0.6, 0.65
"""How much of a core, and of the one that a process of Python can use, is planned to be busy."""
CALLS_TO_STRIPE: Final = 3
"""A payment that is captured at once is created, confirmed and captured. Adyen gets two calls."""
STRIPE_CALLS_PER_S: Final = 100
"""What Stripe allows an account by default."""
STORED: Final = "SELECT count(*) FROM payments WHERE reference = %s"


def payments(run: Run) -> dict[str, Any]:
    """Payments at full load and at half of that, repeated requests, and full load over HTTP to both simulators."""
    raised = [f"{name}={value}" for each in ENVIRONMENT.values() for name, value in each.items()]
    notify(f"Limits that would be measured instead are raised: {', '.join(raised)}")
    settings: dict[str, Any] = {"follower": PaymentFollower, "environment": ENVIRONMENT}
    with run.stack(**settings) as running:
        known = _open(running, STRIPE)
        requested = merchants.payments_of(known)
        full = running.saturated("gateway in process", requested, run.seconds, ramp_s=run.warm_up_s)
        if run.profiled:
            running.saturated("gateway in process, profiled", requested, run.seconds, profiled=True)
        half = running.paced("half", requested, max(1, round(full.per_s / 2)), run.seconds)
        answers_ms = running.answer_latencies_ms(half)
        repeated = _repeat(running, known)
        run.failures.extend(repeated.failures())
    with run.stack(is_in_process=False, **settings) as running:
        requested = merchants.payments_of(_open(running, BOTH))
        over_http = running.saturated("simulators over HTTP", requested, run.seconds, ramp_s=run.warm_up_s)
    needed = sizing(full.cpu_s, full.sagas)
    return {
        "payments_per_s": round(full.per_s, 1),
        "cpu_ms_per_payment": round(full.cpu_ms_per_saga, 3),
        "p50_ms_to_202_at_half": percentile(answers_ms, 0.50),
        "p99_ms_to_202_at_half": percentile(answers_ms, 0.99),
        "p50_ms_to_captured_at_half": half.quantile_ms(0.50),
        "p99_ms_to_captured_at_half": half.quantile_ms(0.99),
        "http_payments_per_s": round(over_http.per_s, 1),
        "http_cpu_ms_per_payment": round(over_http.cpu_ms_per_saga, 3),
        "cores_for_10000_per_s": needed["cores"],
        "stripe_accounts_for_10000_per_s": needed["stripe_accounts"],
        "partitions_for_10000_per_s": needed["partitions"],
        "processes_for_10000_per_s": needed["processes"],
        "repeated_requests": REPEATED_REQUESTS,
        "repeated_keys": REPEATED_KEYS,
        "repeated_payments": repeated.stored,
        "repeated_conflicts": repeated.statuses[CONFLICT],
    }


def sizing(cpu_s: Mapping[str, float], paid: int, per_s: int = SIZED_PER_S) -> dict[str, Any]:
    """Return what so many payments a second take, from the processor seconds of each process for ``paid`` of them.

    A core is planned for a part of its time, and so is a process, whose Python uses one core. Partitions bound the
    processes of a service; twice as many are left for growth. Pure.
    """
    cores_s = {name: per_s * used_s / max(1, paid) for name, used_s in cpu_s.items()}
    processes = {
        name: math.ceil(used / BUSY_PROCESS) for name, used in cores_s.items() if name in workers() and used > 0
    }
    return {
        "cores": math.ceil(sum(cores_s.values()) / BUSY_CORE),
        "processes": processes,
        "partitions": 2 * max(processes.values(), default=1),
        "stripe_accounts": math.ceil(per_s * CALLS_TO_STRIPE / STRIPE_CALLS_PER_S),
    }


def _open(running: Session, currencies: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Register merchants, and let the loads enter as their requests."""
    known = merchants.open_merchants(running.stack, currencies)
    url = running.stack.url("merchant")
    running.entry = Entry(
        connect=lambda: MerchantClient(url, known, running.statuses), connections=CONNECTIONS, batch_size_max=1
    )
    return known


@dataclass(slots=True)
class Repeated:
    """What became of requests whose keys were sent many times: the ids answered, by key, and what is stored."""

    statuses: Counter[int] = field(default_factory=Counter)
    ids: dict[str, set[str]] = field(default_factory=dict)
    unanswered: int = 0
    stored: int = 0

    def failures(self) -> Iterator[str]:
        """Yield what is not as it has to be: one payment for each key, and no other answer than it."""
        if self.stored != REPEATED_KEYS:
            yield f"{REPEATED_REQUESTS} requests with {REPEATED_KEYS} keys made {self.stored} payments."
        several = sorted(key for key, ids in self.ids.items() if len(ids) != 1)
        if several or len(self.ids) != REPEATED_KEYS:
            yield f"{len(self.ids)} keys of {REPEATED_KEYS} were answered, with several payments: {several[:5]}."
        if self.unanswered:
            yield f"{self.unanswered} requests of repeated keys were not accepted: {dict(self.statuses)}."


def _repeat(running: Session, known: Mapping[str, tuple[str, str]]) -> Repeated:
    """Send each key as often as any other, mixed, over CONNECTIONS connections at once; then count what is stored."""
    run = new_id().lower()
    merchant_id, (currency, _) = next(iter(known.items()))
    payers = [f"again_{number}" for number in range(REPEATED_KEYS)]
    originals = [Order(f"{run}-{each}", merchants.body_of(currency, each, run), merchant_id) for each in payers]
    requests = originals * (REPEATED_REQUESTS // REPEATED_KEYS)
    random.Random(1).shuffle(requests)
    found, lock = Repeated(), threading.Lock()

    def send(part: Sequence[Order]) -> None:
        statuses: list[int] = []
        with closing(MerchantClient(running.stack.url("merchant"), known, statuses)) as client:
            for order in part:
                status, answer = _accepted(client, order)
                with lock:
                    if status in (200, 202):
                        found.ids.setdefault(order.key, set()).add(str(json.loads(answer)["id"]))
                    else:
                        found.unanswered += 1
        with lock:
            found.statuses.update(statuses)

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for _ in threads.map(send, [requests[number::CONNECTIONS] for number in range(CONNECTIONS)]):
            pass
    with closing(connect(sources_of(running.stack), "merchant")) as connection:
        row = connection.execute(STORED, (run,)).fetchone()
    found.stored = int(row[0]) if row else 0
    answered = ", ".join(f"{count} x {status}" for status, count in sorted(found.statuses.items()))
    notify(f"{REPEATED_REQUESTS} requests with {REPEATED_KEYS} keys: {found.stored} payments ({answered})")
    return found


def _accepted(client: MerchantClient, order: Order) -> tuple[int, bytes]:
    """Send a request, again while the first of its key is being stored; return its last answer."""
    for _ in range(TRIES_MAX):
        status, answer = client.request(order)
        if status != CONFLICT:
            break
    return status, answer
