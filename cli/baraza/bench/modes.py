"""The benchmarks by name: the loads of each, and its summary."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from baraza.audit.report import Report
from baraza.bench import comparison, console, feeds, payments, sacco
from baraza.bench import orders as ordering
from baraza.bench.books import database, measuring, over_kafka
from baraza.bench.copies import fill
from baraza.bench.measurement import Measured
from baraza.bench.orders import Order
from baraza.bench.requests import Request, Requests
from baraza.bench.session import Session, Settings, session
from baraza.bench.usage import Usage
from baraza.percentiles import percentile
from baraza.storefront.dataset import Mix
from baraza.storefront.dataset import workload as baskets
from baraza.system.client import Tokens
from baraza.system.running import TRACKER_API

PEERS_PER_S = 225
"""The rate at which the latency of other engines was measured."""
IDLE_PER_S = 5
"""A rate at which each saga is alone on an idle stack most of the time."""
REJECTED = 0.05
COMPARED_FOR = 3
"""Compared loads are measured this many times as long: they differ by less than the machine itself varies."""
INTAKE_WARM_UP_S = 10.0
"""Shorter, because every order that checkout accepts meanwhile waits to be handled."""
BASKETS = 10_000
INTAKE_CONNECTIONS = 16
SPIKE_BASE = 1 / 50
PROBE_EVERY_S = 0.1
QUERIES_CONNECTIONS = 8
"""One for each simulated person, so that requests queue only at the server."""
QUERIES_EVERY_S = 0.4
ORIGINALS = 2_000
"""Sagas that are run as the originals of the copies."""

Summary = dict[str, Any]


@dataclass(slots=True)
class Run:
    """One run of a benchmark: its settings, and the measurements and audits of its stacks."""

    settings: Settings
    seconds: float
    sizes: Sequence[int]
    processes: Sequence[int]
    spike_s: float
    profiled: bool
    warm_up_s: float
    measured: list[Measured] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    stacks: list[Summary] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What was not done as it has to be; any makes the run fail, as a red audit does."""

    @contextmanager
    def stack(self, **changes: Any) -> Iterator[Session]:
        """Yield a stack, and audit it after the block."""
        settings = replace(self.settings, **changes)
        with session(settings) as running:
            yield running
            self.reports.append(running.audit())
            self.measured.extend(running.measured)
            peaks_mb = {name: round(peak) for name, peak in sorted(running.meter.peaks_mb.items())}
            added = {name: dict(each) for name, each in settings.environment.items()}
            self.stacks.append({"settings": {**running.settings(), "environment": added}, "memory_peak_mb": peaks_mb})


def peers(run: Run) -> Summary:
    """Orders of one line: at full load, at half of that and at PEERS_PER_S, without and with rejections at shipping."""
    with run.stack() as running:
        running.load_seed(ordering.uniform_seed())
        orders = ordering.uniform_orders()
        rejected_orders = ordering.uniform_orders(rejected=REJECTED, seed=2)
        full, rejected = running.saturated_alternating(
            {"saturated": orders, "saturated, 5% rejected": rejected_orders},
            COMPARED_FOR * run.seconds,
            ramp_s=run.warm_up_s,
        )
        half_per_s = round(full.per_s / 2)
        if run.profiled:
            running.saturated("saturated, profiled", orders, run.seconds, profiled=True)
        half = running.paced("half", orders, half_per_s, run.seconds)
        lags_ms = running.timeline_lags_ms(half)
        running.paced("half, 5% rejected", rejected_orders, half_per_s, run.seconds)
        even = running.paced(f"{PEERS_PER_S}/s", orders, PEERS_PER_S, run.seconds)
        running.paced(f"{PEERS_PER_S}/s, 5% rejected", rejected_orders, PEERS_PER_S, run.seconds)
    return {
        "saturated_per_s": round(full.per_s, 1),
        "rejected_5pct_per_s": round(rejected.per_s, 1),
        "rejected_5pct_share": round(rejected.per_s / max(1.0, full.per_s), 3),
        "p50_ms_at_half": half.quantile_ms(0.50),
        "p99_ms_at_half": half.quantile_ms(0.99),
        "timeline_lag_p99_ms_at_half": percentile(lags_ms, 0.99),
        "p50_ms_at_225": even.quantile_ms(0.50),
        "p99_ms_at_225": even.quantile_ms(0.99),
        "cpu_ms_per_saga": round(full.cpu_ms_per_saga, 3),
    }


def steady(run: Run) -> Summary:
    """Orders of one line at full load, at PEERS_PER_S and at IDLE_PER_S: what ``compare`` runs of each version."""
    with run.stack() as running:
        running.load_seed(ordering.uniform_seed())
        orders = ordering.uniform_orders()
        full = running.saturated(comparison.SATURATED, orders, run.seconds, ramp_s=run.warm_up_s)
        middling = running.paced(comparison.MIDDLING, orders, PEERS_PER_S, run.seconds)
        idle = running.paced(comparison.IDLE, orders, IDLE_PER_S, run.seconds)
    return {
        "saturated_per_s": round(full.per_s, 1),
        "p50_ms_at_225": middling.quantile_ms(0.50),
        "p99_ms_at_225": middling.quantile_ms(0.99),
        "cpu_ms_per_saga_at_225": round(middling.cpu_ms_per_saga, 3),
        "p50_ms_at_5": idle.quantile_ms(0.50),
    }


def http(run: Run) -> Summary:
    """As ``peers``, with the gateway's and the courier's simulators over HTTP."""
    with run.stack(is_in_process=False) as running:
        running.load_seed(ordering.uniform_seed())
        return _full_and_half(run, running, ordering.uniform_orders())


def real(run: Run) -> Summary:
    """A retailer's baskets, 9.4 lines on average."""
    workload = baskets(BASKETS, Mix(short_products=0.0, declined_cards=0.0, bad_addresses=0.0, overdrawn=0.0))
    with run.stack() as running:
        running.load_seed(ordering.real_seed(workload))
        return _full_and_half(run, running, ordering.real_orders(workload))


def intake(run: Run) -> Summary:
    """Single orders at checkout, as fast as it accepts them; their sagas run after the measurement."""
    with run.stack() as running:
        running.load_seed(ordering.uniform_seed())
        orders = ordering.uniform_orders()
        others = [name for name in running.services() if name != "checkout"]
        for name in others:
            running.stack.stack.stop(name)
        with _order_requests(running, orders, connections=INTAKE_CONNECTIONS) as requests:
            time.sleep(INTAKE_WARM_UP_S)
            requests.take()
            began = running.meter.read()
            time.sleep(run.seconds)
            responses, usage = requests.take().to_json(), Usage.between(began, running.meter.read())
        for name in others:
            running.stack.stack.start(name)
    count = max(1, responses["requests"])
    return {
        **responses,
        "cpu_ms_per_request": round(1_000 * sum(usage.stack_s.values()) / count, 3),
        "load_cpu_ms_per_request": round(1_000 * usage.load_s / count, 3),
        "others_cores": round(usage.others_cores, 3),
    }


def spike(run: Run) -> Summary:
    """From a fiftieth of the capacity to all of it for ``spike_s``, and back; a probe submits single orders."""
    with run.stack() as running:
        running.load_seed(ordering.uniform_seed())
        orders = ordering.uniform_orders()
        capacity = running.saturated("saturated", orders, run.seconds, ramp_s=run.warm_up_s).per_s
        rest_mb = running.meter.memory_mb()
        others = ordering.uniform_orders(seed=3)  # the probe has an iterator and a thread of its own
        with _order_requests(running, others, connections=1, every_s=PROBE_EVERY_S) as probe:
            running.paced("before the spike", orders, capacity * SPIKE_BASE, run.seconds)
            before = probe.take()
            running.paced("spike", orders, capacity, run.spike_s, ramp_s=0.0, drain=False, repeats_max=0)
            backlog, ended_at_s = running.follower.open(), time.monotonic()
            peak_mb = running.meter.memory_mb()
            during = probe.take()
            running.drain()
            gone_after_s = time.monotonic() - ended_at_s
            running.paced("after the spike", orders, capacity * SPIKE_BASE, run.seconds)
            after = probe.take()
    return {
        "capacity_per_s": round(capacity, 1),
        "spike_s": run.spike_s,
        "backlog_at_its_end": backlog,
        "backlog_gone_after_s": round(gone_after_s, 1),
        "intake": {"before": before.to_json(), "during": during.to_json(), "after": after.to_json()},
        "memory_mb": {name: [round(rest_mb.get(name, 0.0)), round(now)] for name, now in peak_mb.items()},
    }


def scale(run: Run) -> Summary:
    """The throughput with ever more sagas in the tables, then with ever more processes of each service."""
    sizes: Summary = {}
    with run.stack() as running:
        running.load_seed(ordering.uniform_seed())
        orders = ordering.uniform_orders()
        _run_originals(running, orders)
        for size in run.sizes:
            fill(running.stack, size)
            sizes[str(size)] = _speed_and_queries(run, running, orders, f"{size} sagas")
    processes: Summary = {}
    for count in run.processes:
        with run.stack(replicas=dict.fromkeys(Session.WORKERS, count)) as running:
            running.load_seed(ordering.uniform_seed())
            processes[str(count)] = _full_and_half(run, running, ordering.uniform_orders(), f", {count} processes")
    return {"by_sagas_in_the_tables": sizes, "by_processes_of_each_service": processes}


def queries(run: Run) -> Summary:
    """Timelines and lists, with the most sagas in the tables and orders at half of the full rate."""
    with run.stack() as running:
        running.load_seed(ordering.uniform_seed())
        orders = ordering.uniform_orders()
        _run_originals(running, orders)
        fill(running.stack, run.sizes[-1])
        return _speed_and_queries(run, running, orders, f"{run.sizes[-1]} sagas")


def _run_originals(running: Session, orders: Iterator[Order]) -> None:
    running.paced("originals", orders, ORIGINALS / 10, 10.0, ramp_s=0.0, repeats_max=0)


def _speed_and_queries(run: Run, running: Session, orders: Iterator[Order], suffix: str) -> Summary:
    full = running.saturated(f"saturated, {suffix}", orders, run.seconds, ramp_s=run.warm_up_s)
    ids = running.some_saga_ids()
    chance = random.Random(1)

    def timeline() -> Request:
        return Request("GET", f"/v1/sagas/{chance.choice(ids)}/timeline")

    def listing() -> Request:
        return Request("GET", f"/v1/sagas?state={chance.choice(('CONFIRMED', 'PENDING', 'NEEDS_REVIEW'))}&limit=50")

    def requests(request: Callable[[], Request]) -> Requests:
        tokens = Tokens(running.stack.url("issuer"))
        url = running.stack.url(TRACKER_API)
        return Requests(url, tokens, request, connections=QUERIES_CONNECTIONS, every_s=QUERIES_EVERY_S)

    with requests(timeline) as timelines, requests(listing) as lists:
        half = running.paced(f"half, {suffix}", orders, round(full.per_s / 2), run.seconds)
        return {
            "saturated_per_s": round(full.per_s, 1),
            "cpu_ms_per_saga": round(full.cpu_ms_per_saga, 3),
            "p50_ms_at_half": half.quantile_ms(0.50),
            "p99_ms_at_half": half.quantile_ms(0.99),
            "timeline": timelines.take().to_json(),
            "list": lists.take().to_json(),
            "memory_mb": {name: round(now) for name, now in running.meter.memory_mb().items()},
        }


def _full_and_half(run: Run, running: Session, orders: Iterator[Order], suffix: str = "") -> Summary:
    full = running.saturated(f"saturated{suffix}", orders, run.seconds, ramp_s=run.warm_up_s)
    half = running.paced(f"half{suffix}", orders, round(full.per_s / 2), run.seconds)
    return {
        "saturated_per_s": round(full.per_s, 1),
        "p50_ms_at_half": half.quantile_ms(0.50),
        "p99_ms_at_half": half.quantile_ms(0.99),
        "cpu_ms_per_saga": round(full.cpu_ms_per_saga, 3),
    }


def _order_requests(running: Session, orders: Iterator[Order], *, connections: int, every_s: float = 0.0) -> Requests:
    def request() -> Request:
        order = next(orders)
        return Request("POST", "/v1/orders", order.body.encode(), order.key)

    tokens = Tokens(running.stack.url("issuer"))
    return Requests(running.stack.url("checkout"), tokens, request, connections=connections, every_s=every_s)


def ledger(run: Run) -> Summary:
    """The ledger's batch path by case, beside hand-written SQL; its reads by size; transfers as steps of sagas."""
    with database.own_books() as books:
        found = measuring.measure_cases(books, run.seconds)
        found |= measuring.measure_peer(books, run.seconds)
        found |= measuring.measure_sizes(books, run.sizes, run.seconds)
        run.reports.append(books.report())
    with run.stack() as running:
        return found | over_kafka.measure(running)


def reconciliation(run: Run) -> Summary:
    """Reading and matching a gateway's feed against as many payments, by their number."""
    return feeds.measure(run.sizes)


MODES: dict[str, Callable[[Run], Summary]] = {
    mode.__name__: mode
    for mode in (
        *(peers, steady, http, real, intake, spike, scale, queries, ledger),
        *(payments.payments, reconciliation, sacco.sacco, console.console),
    )
}
