"""The benchmarks by name: what each loads, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from baraza.bench import workload
from baraza.bench.session import Measured, Session
from baraza.dataset import Mix
from baraza.dataset import work as baskets

PEERS_PER_S = 225
"""The rate at which the latency of other engines was measured."""
REJECTED = 0.05
WARM_UP_S = 10.0
"""Until Kafka's code is compiled, statements are prepared and tables have pages to spare."""
BASKETS = 10_000

Orders = Callable[[], Iterator[str]]
Summary = dict[str, Any]
Mode = Callable[[Session, float], tuple[Summary, list[Measured]]]


def peers(session: Session, seconds: float) -> tuple[Summary, list[Measured]]:
    """Return the speed of orders of one line, full, at half of that and at PEERS_PER_S, clean and with rejections."""
    session.stock(workload.uniform_goods())
    orders = workload.uniform_orders()
    rejected_orders = workload.uniform_orders(rejected=REJECTED, seed=2)
    full = session.saturated("saturated", orders, seconds, ramp_s=WARM_UP_S)
    rejected = session.saturated("saturated, 5% rejected", rejected_orders, seconds)
    half_per_s = round(full.per_s / 2)
    half = session.paced("half", orders, half_per_s, seconds)
    half_rejected = session.paced("half, 5% rejected", rejected_orders, half_per_s, seconds)
    even = session.paced(f"{PEERS_PER_S}/s", orders, PEERS_PER_S, seconds)
    even_rejected = session.paced(f"{PEERS_PER_S}/s, 5% rejected", rejected_orders, PEERS_PER_S, seconds)
    summary = {
        "saturated_per_s": round(full.per_s, 1),
        "rejected_5pct_per_s": round(rejected.per_s, 1),
        "p50_ms_at_half": half.quantile_ms(0.50),
        "p99_ms_at_half": half.quantile_ms(0.99),
        "p50_ms_at_225": even.quantile_ms(0.50),
        "p99_ms_at_225": even.quantile_ms(0.99),
        "cpu_ms_per_saga": round(full.cpu_ms_per_saga, 3),
    }
    return summary, [full, rejected, half, half_rejected, even, even_rejected]


def http(session: Session, seconds: float) -> tuple[Summary, list[Measured]]:
    """Return the speed with the gateway's and the courier's simulators over HTTP."""
    session.stock(workload.uniform_goods())
    return _full_and_half(session, workload.uniform_orders(), seconds)


def real(session: Session, seconds: float) -> tuple[Summary, list[Measured]]:
    """Return the speed of a retailer's baskets, 9.4 lines on average."""
    work = baskets(BASKETS, Mix(short_products=0.0, declined_cards=0.0, bad_addresses=0.0, overdrawn=0.0))
    session.stock(workload.real_goods(work))
    return _full_and_half(session, workload.real_orders(work), seconds)


def _full_and_half(session: Session, orders: Iterator[str], seconds: float) -> tuple[Summary, list[Measured]]:
    full = session.saturated("saturated", orders, seconds, ramp_s=WARM_UP_S)
    half = session.paced("half", orders, round(full.per_s / 2), seconds)
    summary = {
        "saturated_per_s": round(full.per_s, 1),
        "p50_ms_at_half": half.quantile_ms(0.50),
        "p99_ms_at_half": half.quantile_ms(0.99),
        "cpu_ms_per_saga": round(full.cpu_ms_per_saga, 3),
    }
    return summary, [full, half]


MODES: dict[str, Mode] = {"peers": peers, "http": http, "real": real}
OVER_HTTP = frozenset({"http"})
"""The modes whose gateway and courier are the simulators; in the others they are inside of payment and shipping."""
