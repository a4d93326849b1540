"""A stack of a benchmark's own, and the two ways to load it: until it is full, or with so many orders a second."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench_providers import SUBSTITUTES
from stack.running import up
from stack.settings import PORT_VARIABLE, from_environment

from baraza.audit.report import Report
from baraza.audit.sources import TRACKER, connect
from baraza.bench import profile
from baraza.bench.following import Ended, Follower
from baraza.bench.sending import CheckoutClient, Sending, pace, pressure
from baraza.bench.usage import Meter
from baraza.bench.workload import Order, SeedData
from baraza.client import Tokens
from baraza.commands import audit as audit_command
from baraza.commands import load
from baraza.commands import stack as stack_command
from baraza.demo import percentile
from baraza.running import Running
from baraza.terminal import Refusal, say
from stack import postgres, services

OPEN_MAX = 1_500
"""Orders open at a time under full load: enough that every service always finds a batch, few enough to drain soon."""
RAMP_S = 3.0
"""Between the start of a load and the start of the clock."""
TURN_S = 5.0
"""Some thirty batches of each service; a machine's own pace seldom changes within two turns."""
DRAIN_S = 120.0
AUDIT_WAIT_S = 120.0
LOOK_S = 0.1
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load, measured. Latencies are in milliseconds from when an order was due to when its end could be read."""

    name: str
    began_at_s: float
    seconds: float
    offered_per_s: float | None
    confirmed: int
    cancelled: int
    latencies_ms: list[float]
    cpu_s: dict[str, float]
    load_cpu_s: float
    statuses: Mapping[int, int]
    """How many orders checkout answered with each status."""
    parts_s: Mapping[str, float] | None = None
    turns_per_s: Sequence[float] = ()
    """Sagas a second in each of its turns, where it had some."""

    @property
    def sagas(self) -> int:
        """How many ended while the clock ran."""
        return self.confirmed + self.cancelled

    @property
    def per_s(self) -> float:
        """Complete sagas a second."""
        return self.sagas / self.seconds

    @property
    def cpu_ms_per_saga(self) -> float:
        """Processor time of the whole stack for one saga."""
        return 1_000 * sum(self.cpu_s.values()) / max(1, self.sagas)

    def quantile_ms(self, share: float) -> float | None:
        """Return the latency that ``share`` of the orders did not exceed; None where none was measured."""
        return percentile(self.latencies_ms, share)

    def parts_ms(self) -> dict[str, float] | None:
        """Return the processor time of a saga by part of the work, the largest first; None where nobody looked."""
        if self.parts_s is None:
            return None
        return {
            part: round(1_000 * used_s / max(1, self.sagas), 3)
            for part, used_s in sorted(self.parts_s.items(), key=lambda pair: -pair[1])
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as a script wants it."""
        return {
            "load": self.name,
            "seconds": round(self.seconds, 1),
            "offered_per_s": self.offered_per_s,
            "per_s": round(self.per_s, 1),
            "confirmed": self.confirmed,
            "cancelled": self.cancelled,
            "p50_ms": self.quantile_ms(0.50),
            "p99_ms": self.quantile_ms(0.99),
            "cpu_ms_per_saga": round(self.cpu_ms_per_saga, 3),
            "cpu_s": {name: round(used, 2) for name, used in sorted(self.cpu_s.items()) if used >= 0.01},
            "load_cpu_s": round(self.load_cpu_s, 2),
            "orders_by_status": {str(status): count for status, count in sorted(self.statuses.items())},
            "cpu_ms_per_saga_by_part": self.parts_ms(),
            "turns_per_s": [round(each, 1) for each in self.turns_per_s],
        }


def together(turns: Sequence[Measured]) -> Measured:
    """Return what the turns of one load come to."""
    return replace(
        turns[0],
        seconds=sum(each.seconds for each in turns),
        confirmed=sum(each.confirmed for each in turns),
        cancelled=sum(each.cancelled for each in turns),
        cpu_s={name: sum(each.cpu_s.get(name, 0.0) for each in turns) for name in turns[0].cpu_s},
        load_cpu_s=sum(each.load_cpu_s for each in turns),
        statuses=sum((Counter(each.statuses) for each in turns), Counter()),
        turns_per_s=[each.per_s for each in turns],
    )


class Session:
    """A stack that is up, its follower and its meter."""

    WORKERS = services.workers()

    def __init__(self, stack: Running, follower: Follower, meter: Meter) -> None:
        self.stack = stack
        self.follower = follower
        self.meter = meter
        self.measured: list[Measured] = []
        self._tokens = Tokens(stack.url("issuer"))
        self._statuses: list[int] = []

    def settings(self) -> dict[str, Any]:
        """Return what the figures depend on: processes, partitions, durability, providers."""
        state = self.stack.stack.layout()
        return {
            **state,
            "postgres": dict(postgres.CONFIGURATION),
            "gateway": self._provider("payment", "BARAZA_GATEWAY_URL"),
            "courier": self._provider("shipping", "BARAZA_COURIER_URL"),
            "open_orders_max": OPEN_MAX,
        }

    def stock(self, goods: SeedData) -> None:
        """Load the catalogue, the stock and the customers."""
        load.put_catalogue(self.stack, iter(goods.products), len(goods.products))
        load.put_customers(self.stack, iter(goods.customers), len(goods.customers))

    def services(self) -> list[str]:
        """Return the names of the processes that have a database."""
        return [name for name in self.stack.stack.process_ids() if name.startswith(self.WORKERS)]

    def some_saga_ids(self) -> list[str]:
        """Return ids of sagas, old and new ones alike."""
        with closing(connect(self.stack.sources(), TRACKER)) as connection:
            rows = connection.execute(SOME_SAGAS).fetchall()
        return [saga_id for (saga_id,) in rows]

    def till(self) -> CheckoutClient:
        """Return a connection to checkout."""
        return CheckoutClient(self.stack.url("checkout"), self._tokens, self._statuses)

    def saturated(
        self, name: str, orders: Iterator[Order], seconds: float, *, ramp_s: float = RAMP_S, profiled: bool = False
    ) -> Measured:
        """Keep OPEN_MAX orders open, and measure once that has gone on for ``ramp_s``."""
        with Sending(self.till, self.follower, pressure(self.follower, orders, open_max=OPEN_MAX)):
            time.sleep(ramp_s)
            measured = self._measure(name, seconds, None, profiled=profiled)
        self.drain()
        return self._keep(measured)

    def saturated_in_turns(
        self, workloads: Mapping[str, Iterator[Order]], seconds: float, *, ramp_s: float = RAMP_S
    ) -> list[Measured]:
        """Keep OPEN_MAX orders open, of each workload in turns, and measure each for ``seconds``, in turns of TURN_S.

        What is compared shares one load, for a machine's own pace changes within minutes. A turn is measured once the
        orders of the turn before have ended; every other round goes backwards.
        """
        turns: dict[str, list[Measured]] = {name: [] for name in workloads}
        rounds = math.ceil(seconds / TURN_S)
        whose = next(iter(workloads))

        def orders() -> Iterator[Order]:
            while True:
                yield next(workloads[whose])  # the loop below says whose turn it is

        with Sending(self.till, self.follower, pressure(self.follower, orders(), open_max=OPEN_MAX)):
            time.sleep(ramp_s)
            for number in range(rounds):
                for whose in list(workloads)[:: -1 if number % 2 else 1]:
                    self.drain(time.monotonic())
                    turns[whose].append(self._measure(whose, TURN_S, None))
                latest = "; ".join(f"{name} {measured[-1].per_s:.0f}" for name, measured in turns.items())
                say(f"Round {number + 1} of {rounds}: {latest} a second.")
        self.drain()
        return [self._keep(together(each)) for each in turns.values()]

    def paced(
        self,
        name: str,
        orders: Iterator[Order],
        per_second: float,
        seconds: float,
        *,
        ramp_s: float = RAMP_S,
        drain: bool = True,
    ) -> Measured:
        """Send ``per_second`` orders, evenly, and measure those that were due once that has gone on for ``ramp_s``."""
        with Sending(self.till, self.follower, pace(orders, per_second=per_second)):
            time.sleep(ramp_s)
            measured = self._measure(name, seconds, per_second)
        if drain:
            self.drain()
        ended = self._ended(measured)
        measured.latencies_ms.extend(sorted(1_000 * (each.read_at_s - each.due_at_s) for each in ended))
        return self._keep(measured)

    def timeline_lags_ms(self, measured: Measured) -> list[float]:
        """Return how far the timeline was behind the last event of each order of a paced load, in ascending order.

        It runs from when that event occurred in its service to when the end that the tracker published with it could
        be read, so that both commits, both ways through Kafka and our own reading are in it: it is an upper bound.
        """
        to_wall_s = time.time() - time.monotonic()
        ended = {each.order_id: each.read_at_s + to_wall_s for each in self._ended(measured)}
        with closing(connect(self.stack.sources(), TRACKER)) as connection:
            rows = connection.execute(LAST_EVENTS, (list(ended),)).fetchall()
        return sorted(1_000 * (ended[order_id] - occurred_at.timestamp()) for order_id, occurred_at in rows)

    def drain(self, due_before_s: float = math.inf) -> None:
        """Wait until every order that was due before then (monotonic) has ended. Raises Refusal where one does not."""
        give_up_at_s = time.monotonic() + DRAIN_S
        while count := self.follower.open(due_before_s):
            if time.monotonic() > give_up_at_s:
                raise Refusal(
                    f"{count} orders have not ended within {DRAIN_S:.0f} s, such as "
                    f"{', '.join(self.follower.still_open(3))}; look at their timelines and at the logs in "
                    f"{self.stack.stack.home}."
                )
            time.sleep(LOOK_S)

    def audit(self) -> Report:
        """Audit everything, once it has come to rest."""
        return audit_command.run(self.stack, AUDIT_WAIT_S)

    def _provider(self, service: str, address: str) -> str:
        """Return the package of the provider inside of the service's process, or the address of the one outside."""
        environment = self.stack.stack.environment(service)
        return self.stack.stack.substitutes.get(service, environment[address])

    def _ended(self, measured: Measured) -> list[Ended]:
        return self.follower.ended(measured.began_at_s, measured.began_at_s + measured.seconds)

    def _measure(self, name: str, seconds: float, offered_per_s: float | None, *, profiled: bool = False) -> Measured:
        """Measure the load that is under way for ``seconds``.

        Orders that are kept open move in waves, so under full load the clock starts and stops at the same place of one:
        where those have just ended that were open a moment before. Between two other places more would have begun than
        ended, or fewer.
        """
        is_full = offered_per_s is None
        if is_full:
            self.drain(time.monotonic())
        confirmed, cancelled = self.follower.confirmed, self.follower.cancelled
        cpu_s, load_cpu_s, began_at_s = self.meter.cpu_s(), time.process_time(), time.monotonic()
        already, parts_s = len(self._statuses), None
        if profiled:
            parts_s = profile.parts_s(self._python_processes(), seconds)
        else:
            time.sleep(seconds)
        if is_full:
            self.drain(time.monotonic())
        took_s = time.monotonic() - began_at_s
        used_s = {process: used - cpu_s.get(process, 0.0) for process, used in self.meter.cpu_s().items()}
        if parts_s is not None:
            python = self._python_processes()
            longer = sum(used_s[process] for process in python) / sum(parts_s.values())  # the clock ran for longer
            parts_s = {part: used * longer for part, used in parts_s.items()}
            parts_s.update({process: used for process, used in used_s.items() if process not in python})
        return Measured(
            name=name,
            began_at_s=began_at_s,
            seconds=took_s,
            offered_per_s=offered_per_s,
            confirmed=self.follower.confirmed - confirmed,
            cancelled=self.follower.cancelled - cancelled,
            latencies_ms=[],
            cpu_s=used_s,
            load_cpu_s=time.process_time() - load_cpu_s,
            statuses=Counter(self._statuses[already:]),
            parts_s=parts_s,
        )

    def _keep(self, measured: Measured) -> Measured:
        self.measured.append(measured)
        cpu_ms = measured.cpu_ms_per_saga
        say(f"{measured.name}: {measured.per_s:.0f} a second, {cpu_ms:.2f} ms of processor time a saga")
        return measured

    def _python_processes(self) -> dict[str, int]:
        return {name: pid for name, pid in self.stack.stack.process_ids().items() if name in self.services()}


@contextmanager
def session(settings: Settings) -> Iterator[Session]:
    """Yield a stack in a folder of its own, on free ports; both are gone afterwards. Raises StackError."""
    with tempfile.TemporaryDirectory(prefix="baraza-bench-") as folder:
        started_at_s = time.monotonic()
        with stack_command.watching() as watch:
            stack = up(_stack_settings(Path(folder), settings), watch)
        try:
            say(f"Stack up in {time.monotonic() - started_at_s:.0f} s.")
            running = Running(stack=stack)
            with Meter(stack) as meter, Follower(running.kafka, running.registry_url) as follower:
                yield Session(running, follower, meter)
        finally:
            stack.down()


def _stack_settings(folder: Path, settings: Settings) -> Any:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PORT_VARIABLE)}
    chosen = from_environment(
        environ,
        home=folder / "home",
        partitions=settings.partitions,
        replicas=settings.replicas,
    )
    substitutes = SUBSTITUTES if settings.is_in_process else {}
    return replace(chosen, tls=settings.tls, optimised=True, substitutes=substitutes)
