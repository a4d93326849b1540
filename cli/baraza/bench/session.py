"""A stack of the benchmark's own, and the two ways to load it: with as many orders as it takes, or at a fixed rate."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from baraza.audit import console
from baraza.audit.report import Report
from baraza.audit.sources import TRACKER, connect, sources_of
from baraza.bench import profile
from baraza.bench.arrivals import Arrivals, arrival_times_s
from baraza.bench.follower import Ended, Follower
from baraza.bench.load import Answered, CheckoutClient, Entry, Load, paced, saturating
from baraza.bench.measurement import Measured, combined
from baraza.bench.orders import Order
from baraza.bench.usage import Meter, Usage
from baraza.storefront import seed
from baraza.storefront.seed import SeedData
from baraza.system.client import Tokens
from baraza.system.running import Running
from baraza.system.startup import progress_shown
from baraza.terminal import Refusal, notify
from bench_providers import SUBSTITUTES
from stack import postgres, services
from stack.lifecycle import up
from stack.settings import PORT_VARIABLE, from_environment

OPEN_MAX = 1_500
"""Orders open at a time under full load: enough that every service always finds a batch, few enough to drain soon."""
RAMP_S = 3.0
"""Between the start of a load and the start of the clock."""
INTERVAL_S = 5.0
"""Some thirty batches of each service; a machine's own pace seldom changes within two intervals."""
OTHERS_MAX_CORES = 0.1
"""With more work for others than that an interval is repeated, because it slows sagas down like the stack's own."""
REPEATS_MAX = 3
"""A machine that is never quiet is measured all the same, and the figures state what it did for others."""
DRAIN_S = 120.0
AUDIT_WAIT_S = 120.0
POLL_S = 0.1
LAST_EVENTS = """
    SELECT ends.saga_id, cause.occurred_at
    FROM timeline AS ends
    JOIN timeline AS cause ON cause.saga_id = ends.saga_id AND cause.message_id = ends.causation_id
    WHERE ends.saga_id = ANY(%s) AND ends.topic = 'saga.events'
"""
SOME_SAGAS = "SELECT saga_id FROM sagas ORDER BY random() LIMIT 1000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run may choose about its stack."""

    partitions: int | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    is_in_process: bool = True
    tls: bool = False
    arrivals: Arrivals = Arrivals.POISSON
    follower: type[Follower] = Follower
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Variables by process, as ``StackSettings`` has them: limits that would be measured instead of the stack."""


class Session:
    """A stack that is up, its follower and its meter."""

    WORKERS = services.workers()

    def __init__(self, stack: Running, follower: Follower, meter: Meter, arrivals: Arrivals) -> None:
        self.stack = stack
        self.follower = follower
        self.meter = meter
        self._arrivals = arrivals
        self.measured: list[Measured] = []
        self._tokens = Tokens(stack.url("issuer"))
        self.statuses: list[int] = []
        """How each order or payment was answered."""
        self._answered: list[Answered] = []
        self.entry = Entry(connect=self.checkout_client)

    def settings(self) -> dict[str, Any]:
        """Return what the figures depend on: processes, partitions, durability, providers."""
        return {
            **self.stack.stack.layout(),
            "postgres": dict(postgres.CONFIGURATION),
            "gateway": self._provider("payment", "BARAZA_GATEWAY_URL"),
            "courier": self._provider("shipping", "BARAZA_COURIER_URL"),
            "mobile_money": self.stack.stack.substitutes.get("mobile-money", "simulators"),
            "open_orders_max": OPEN_MAX,
            "arrivals": self._arrivals.value,
        }

    def load_seed(self, data: SeedData) -> None:
        """Load the catalogue, the stock and the customers."""
        seed.load(self.stack, data)

    def services(self) -> list[str]:
        """Return the names of the processes that have a database."""
        return [name for name in self.stack.stack.process_ids() if name.startswith(self.WORKERS)]

    def some_saga_ids(self) -> list[str]:
        """Return ids of sagas, old and new ones alike."""
        with closing(connect(sources_of(self.stack), TRACKER)) as connection:
            rows = connection.execute(SOME_SAGAS).fetchall()
        return [saga_id for (saga_id,) in rows]

    def checkout_client(self) -> CheckoutClient:
        """Return a connection to checkout."""
        return CheckoutClient(self.stack.url("checkout"), self._tokens, self.statuses)

    def saturated(
        self, name: str, orders: Iterator[Order], seconds: float, *, ramp_s: float = RAMP_S, profiled: bool = False
    ) -> Measured:
        """Keep OPEN_MAX orders open, and measure once that has gone on for ``ramp_s``."""
        with self._saturating(orders):
            time.sleep(ramp_s)
            measured = self._measure(name, seconds, None, profiled=profiled)
        self.drain()
        return self._keep(measured)

    def saturated_alternating(
        self, workloads: Mapping[str, Iterator[Order]], seconds: float, *, ramp_s: float = RAMP_S
    ) -> list[Measured]:
        """Keep OPEN_MAX orders open, and measure each workload for ``seconds``, in alternating intervals of INTERVAL_S.

        Workloads that are compared share one load, because a machine's own pace changes within minutes. An interval is
        measured once the orders of the interval before have ended; every other round goes backwards.
        """
        intervals: dict[str, list[Measured]] = {name: [] for name in workloads}
        rounds = math.ceil(seconds / INTERVAL_S)
        current = next(iter(workloads))

        def orders() -> Iterator[Order]:
            while True:
                yield next(workloads[current])  # the loop below chooses the workload of the interval

        with self._saturating(orders()):
            time.sleep(ramp_s)
            for number in range(rounds):
                for current in list(workloads)[:: -1 if number % 2 else 1]:
                    self.drain(time.monotonic())
                    intervals[current].append(self._measure(current, INTERVAL_S, None))
                latest = "; ".join(f"{name} {measured[-1].per_s:.0f}" for name, measured in intervals.items())
                notify(f"Round {number + 1} of {rounds}: {latest} a second.")
        self.drain()
        return [self._keep(combined(each)) for each in intervals.values()]

    def paced(
        self,
        name: str,
        orders: Iterator[Order],
        per_second: float,
        seconds: float,
        *,
        ramp_s: float = RAMP_S,
        drain: bool = True,
        repeats_max: int = REPEATS_MAX,
    ) -> Measured:
        """Send ``per_second`` orders, and measure those that were due once that has gone on for ``ramp_s``."""
        times_s = arrival_times_s(self._arrivals, per_second=per_second, began_at_s=time.monotonic())
        due = paced(orders, times_s, batch_size_max=self.entry.batch_size_max)
        with Load(self.entry, self.follower, due, self._answered):
            time.sleep(ramp_s)
            measured = self._measure(name, seconds, per_second, repeats_max=repeats_max)
        if drain:
            self.drain()
        ended = self.ended(measured)
        measured.latencies_ms.extend(sorted(1_000 * (each.read_at_s - each.due_at_s) for each in ended))
        return self._keep(measured)

    def answer_latencies_ms(self, measured: Measured) -> list[float]:
        """Return, of a paced load, from when each accepted order was due to when it was answered, ascending."""
        until_s = measured.began_at_s + measured.seconds
        answered = [each for each in self._answered if measured.began_at_s <= each.due_at_s < until_s]
        return sorted(1_000 * (each.at_s - each.due_at_s) for each in answered)

    def ended(self, measured: Measured) -> list[Ended]:
        """Return the sagas of a load that were due while it was measured and have ended."""
        return self.follower.ended(measured.began_at_s, measured.began_at_s + measured.seconds)

    def timeline_lags_ms(self, measured: Measured) -> list[float]:
        """Return how far the timeline lagged behind the last event of each order of a paced load, in ascending order.

        A lag runs from when that event occurred in its service to when the outcome that the tracker published for it
        was readable. It is an upper bound: both commits, both ways through Kafka and our own reading are in it.
        """
        to_wall_s = time.time() - time.monotonic()
        ended = {each.order_id: each.read_at_s + to_wall_s for each in self.ended(measured)}
        with closing(connect(sources_of(self.stack), TRACKER)) as connection:
            rows = connection.execute(LAST_EVENTS, (list(ended),)).fetchall()
        return sorted(1_000 * (ended[order_id] - occurred_at.timestamp()) for order_id, occurred_at in rows)

    def drain(self, due_before_s: float = math.inf) -> None:
        """Wait until every saga that was due before then (monotonic) has ended.

        Raises Refusal where none has ended for DRAIN_S: a backlog takes as long as it takes.
        """
        left, deadline_s = math.inf, 0.0
        while count := self.follower.open(due_before_s):
            if count < left:
                left, deadline_s = count, time.monotonic() + DRAIN_S
            if time.monotonic() > deadline_s:
                raise Refusal(
                    f"{count} sagas have not ended, and none has for {DRAIN_S:.0f} s, such as "
                    f"{', '.join(self.follower.still_open(3))}; see their timelines and the logs in "
                    f"{self.stack.stack.home}."
                )
            time.sleep(POLL_S)

    def audit(self) -> Report:
        """Audit everything, once nothing moves."""
        return console.run(self.stack, AUDIT_WAIT_S)

    def _saturating(self, orders: Iterator[Order]) -> Load:
        size = self.entry.batch_size_max
        due = saturating(self.follower, orders, open_max=OPEN_MAX, batch_size_max=size)
        return Load(self.entry, self.follower, due, self._answered)

    def _provider(self, service: str, address: str) -> str:
        """Return the package of the provider inside of the service's process, or the address of the one outside."""
        environment = self.stack.stack.environment(service)
        return self.stack.stack.substitutes.get(service, environment[address])

    def _measure(
        self,
        name: str,
        seconds: float,
        offered_per_s: float | None,
        *,
        profiled: bool = False,
        repeats_max: int = REPEATS_MAX,
    ) -> Measured:
        """Measure the present load for ``seconds``; again, while the machine works for others meanwhile.

        Returns the quietest measurement. A profiler is such work itself, so a profiled load is not repeated.
        """
        tried = [self._measure_once(name, seconds, offered_per_s, profiled=profiled)]
        while not profiled and tried[-1].others_cores > OTHERS_MAX_CORES and len(tried) <= repeats_max:
            notify(f"{name}: {tried[-1].others_cores:.2f} cores worked for others; it is measured again.")
            tried.append(self._measure_once(name, seconds, offered_per_s))
        quietest = min(tried, key=lambda each: each.others_cores)
        return replace(quietest, repeated=len(tried) - 1)

    def _measure_once(
        self, name: str, seconds: float, offered_per_s: float | None, *, profiled: bool = False
    ) -> Measured:
        """Measure the present load for ``seconds``.

        Orders that are kept open move in waves, so under full load the clock starts and stops at the same point of one:
        when the orders that were open a moment before have just ended. Between two other points more orders would have
        begun than ended, or fewer.
        """
        is_full = offered_per_s is None
        if is_full:
            self.drain(time.monotonic())
        confirmed, cancelled = self.follower.confirmed, self.follower.cancelled
        before = self.meter.read()
        statuses_before, sampled_s = len(self.statuses), None
        if profiled:
            sampled_s = profile.parts_s(self._python_processes(), seconds)
        else:
            time.sleep(seconds)
        if is_full:
            self.drain(time.monotonic())
        usage = Usage.between(before, self.meter.read())
        return Measured(
            name=name,
            began_at_s=before.at_s,
            seconds=usage.seconds,
            offered_per_s=offered_per_s,
            confirmed=self.follower.confirmed - confirmed,
            cancelled=self.follower.cancelled - cancelled,
            latencies_ms=[],
            cpu_s=dict(usage.stack_s),
            load_cpu_s=usage.load_s,
            others_cores=usage.others_cores,
            stolen_cores=usage.stolen_cores,
            statuses=Counter(self.statuses[statuses_before:]),
            parts_s=None if sampled_s is None else self._parts_s(sampled_s, usage.stack_s),
        )

    def _parts_s(self, sampled_s: Mapping[str, float], used_s: Mapping[str, float]) -> dict[str, float]:
        """Return the processor time by part: Python's scaled to the clock, which ran longer than the profiler."""
        python = self._python_processes()
        scale = sum(used_s[process] for process in python) / sum(sampled_s.values())
        scaled_s = {part: used * scale for part, used in sampled_s.items()}
        return scaled_s | {process: used for process, used in used_s.items() if process not in python}

    def _keep(self, measured: Measured) -> Measured:
        self.measured.append(measured)
        cpu_ms = measured.cpu_ms_per_saga
        notify(
            f"{measured.name}: {measured.per_s:.0f} a second, {cpu_ms:.2f} ms of processor time a saga"
            f", {measured.others_cores:.2f} cores for others"
        )
        return measured

    def _python_processes(self) -> dict[str, int]:
        return {name: pid for name, pid in self.stack.stack.process_ids().items() if name in self.services()}


@contextmanager
def session(settings: Settings) -> Iterator[Session]:
    """Yield a stack in a folder of its own, on free ports; both are removed afterwards. Raises StackError."""
    with tempfile.TemporaryDirectory(prefix="baraza-bench-") as folder:
        started_at_s = time.monotonic()
        with progress_shown() as watch:
            stack = up(_stack_settings(Path(folder), settings), watch)
        try:
            notify(f"Stack up in {time.monotonic() - started_at_s:.0f} s.")
            running = Running(stack=stack)
            with Meter(stack) as meter, settings.follower(running.kafka, running.registry_url) as follower:
                yield Session(running, follower, meter, settings.arrivals)
        finally:
            stack.down()


def _stack_settings(folder: Path, settings: Settings) -> Any:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PORT_VARIABLE)}
    chosen = from_environment(
        environ,
        home=folder / "home",
        partitions=settings.partitions,
        replicas=settings.replicas,
        environment=settings.environment,
    )
    substitutes = SUBSTITUTES if settings.is_in_process else {}
    return replace(chosen, tls=settings.tls, optimised=True, substitutes=substitutes)
