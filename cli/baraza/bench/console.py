"""The benchmark of the console: pages in a real Chromium, lists of millions of sagas while orders run, and live events.

1. Some orders run, and the stack is audited.
2. The tracker's tables are filled (:mod:`baraza.bench.tracker_rows`); from now on it is not audited.
3. Pages of 30 and of 1,000 entries are opened, while nothing else happens.
4. Orders run at a fixed rate. Meanwhile lists are requested, and pages of orders that run are open.
5. The tracker's counts are compared with its sagas.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import psutil

from baraza.bench import chromium, tracker_rows
from baraza.bench import orders as ordering
from baraza.bench.orders import CUSTOMERS, Order
from baraza.bench.requests import Request, Requests, Responses
from baraza.bench.session import Session, session
from baraza.bench.usage import MEBIBYTE
from baraza.percentiles import percentile
from baraza.system.running import CONSOLE
from baraza.terminal import Refusal, notify

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from baraza.bench.modes import Run

PERSON: Final = "Opal Okafor"
"""An operator at the development issuer."""
COOKIE: Final = "__Host-session"
ENTRIES: Final = (30, 1_000)
VISITS: Final = 15
"""Of each page; the figure is their median."""
ORIGINALS_PER_S, ORIGINALS_S = 50.0, 4.0
ORDERS_PER_S: Final = 300.0
LIST_CONNECTIONS, LIST_EVERY_S = 4, 0.4
"""Ten pages a second, as of a room of people who all reload at once."""
OPEN_PAGES: Final = 3
"""Orders whose pages are open at a time; a browser has four live streams."""
FOLLOWED_FOR_S: Final = 4.0
"""How long the pages of an order stay open: until it has ended, on a busy machine."""
KNOWN_WITHIN_S: Final = 5.0
PAGE_WITHIN_MS: Final = 60_000
POLL_S: Final = 0.02
EVENTS_MIN: Final = 100
"""Fewer events than that have no 99th percentile."""
LISTS: Final = (
    "/", "/sagas", "/sagas?state=NEEDS_REVIEW", "/sagas?state=CONFIRMED&type=order",
    "/sagas?state=IN_DOUBT&cause=REJECTED", "/sagas?started_before={deep}",
    "/sagas?state=CANCELLED_COMPENSATED&started_before={deep}", "/sagas?subject=bench-{customer}", "/review",
)  # fmt: skip
"""Now, and lists with and without filters, new ones and deep ones."""

SEEN: Final = """
(() => {
  const look = () => {
    const rows = document.querySelectorAll("table.timeline tr[data-row]").length;
    if (rows === 0) return requestAnimationFrame(look);
    requestAnimationFrame(() => { window.benchSeen = { at: performance.now(), rows }; });
  };
  requestAnimationFrame(look);
})();
"""
"""Notes when the rows of a timeline were there, in a frame after the one that drew them."""
PAINTED: Final = """
() => {
  if (!window.benchSeen) return null;
  const paint = performance.getEntriesByName("first-paint")[0];
  return paint ? { ...window.benchSeen, first_paint: paint.startTime } : null;
}
"""
ARRIVALS: Final = """
(() => {
  window.benchArrivals = [];
  let pending = [], openedAt = null;
  const Real = window.EventSource;
  window.EventSource = class extends Real {
    constructor(...given) {
      super(...given);
      this.addEventListener("open", () => { openedAt ??= Date.now(); });
      this.addEventListener("entry", (event) => pending.push(Date.parse(JSON.parse(event.data).occurred_at)));
    }
  };
  const drawn = (shown) => {
    const now = Date.now();
    for (const at of shown) if (openedAt !== null && at >= openedAt) window.benchArrivals.push(now - at);
  };
  new MutationObserver((changes) => {
    const isDrawn = changes.some((each) => each.target instanceof Element && each.target.matches("table.timeline"));
    if (!isDrawn || pending.length === 0) return;
    const shown = pending;
    pending = [];
    requestAnimationFrame(() => drawn(shown));
  }).observe(document, { childList: true, subtree: true });
})();
"""
"""Notes for each event that happened after the stream was open, how long after that its row was drawn."""


def console(run: Run) -> dict[str, Any]:
    """Pages in Chromium, lists with the most sagas in the tracker's tables while 300 orders/s run, and live events."""
    chromium.check()
    size = run.sizes[-1]
    with tempfile.TemporaryDirectory(prefix="baraza-bench-") as folder, session(run.settings) as running:
        running.load_seed(ordering.uniform_seed())
        orders = ordering.uniform_orders()
        running.paced("originals", orders, ORIGINALS_PER_S, ORIGINALS_S, ramp_s=0.0, repeats_max=0)
        run.reports.append(running.audit())
        notify("The tracker's tables are filled; what they hold then is not audited.")
        made = {entries: tracker_rows.make_timeline(running.stack, entries) for entries in ENTRIES}
        tracker_rows.fill(running.stack, size)
        with chromium.chromium(Path(folder)) as browser:
            found = _measure(run, running, browser, made, orders)
        run.measured.extend(running.measured)
        peaks_mb = {name: round(peak) for name, peak in sorted(running.meter.peaks_mb.items())}
        run.stacks.append({"settings": running.settings(), "memory_peak_mb": peaks_mb})
        if wrong := tracker_rows.differences(running.stack):
            run.failures.append(f"The tracker's counts differ from its sagas, such as {wrong[0]}.")
    return {**found, "sagas_in_the_tables": size}


def _measure(
    run: Run, running: Session, browser: Browser, made: dict[int, str], orders: Iterator[Order]
) -> dict[str, Any]:
    """Open pages while nothing else happens, then lists and live pages while orders run."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PAGE_WITHIN_MS)
    url = running.stack.url(CONSOLE)
    cookie = _signed_in(context, url)
    found = _pages(context, url, made)
    with _listing(url, cookie) as lists, ThreadPoolExecutor(1) as pool:
        load = pool.submit(
            running.paced,
            f"{ORDERS_PER_S:.0f}/s",
            orders,
            ORDERS_PER_S,
            run.seconds,
            ramp_s=run.warm_up_s,
            repeats_max=0,
        )
        time.sleep(run.warm_up_s)
        lists.take()
        delays_ms = _followed(running, context, url, load)
        listed = lists.take()
    if len(delays_ms) < EVENTS_MIN:
        run.failures.append(f"Only {len(delays_ms)} events were on an open page; measure with more --seconds.")
    found |= {
        "list_p99_ms": percentile(sorted(listed.latencies_ms), 0.99),
        "event_to_page_p50_ms": percentile(delays_ms, 0.50),
        "event_to_page_p99_ms": percentile(delays_ms, 0.99),
        "events_on_open_pages": len(delays_ms),
        "console_mb": round(_rss_mb(running), 1),
        "lists": listed.to_json(),
    }
    if errors := _errors(listed):
        run.failures.append(f"{errors} lists were not answered: {listed.statuses}.")
    return found


def _pages(context: BrowserContext, url: str, made: dict[int, str]) -> dict[str, Any]:
    """Open the page of each made saga, and return its figures by the number of its entries."""
    found: dict[str, Any] = {}
    for entries, saga_id in made.items():
        seen = _visits(context, f"{url}/sagas/{saga_id}")
        first_ms, rows_ms = (round(median(each[name] for each in seen), 1) for name in ("first_paint", "at"))
        found |= {
            f"first_paint_ms_{entries}": first_ms, f"rows_ms_{entries}": rows_ms, f"rows_{entries}": seen[-1]["rows"]
        }  # fmt: skip
        notify(f"{entries} entries: painted first after {first_ms} ms, seen after {rows_ms} ms")
    return found


def _signed_in(context: BrowserContext, url: str) -> str:
    """Sign a person in, and return the session's cookie as a header has it."""
    page = context.new_page()
    page.goto(f"{url}/")
    page.get_by_role("button", name=PERSON).click()
    page.wait_for_url(f"{url}/")
    page.close()
    value = next((each["value"] for each in context.cookies(url) if each.get("name") == COOKIE), None)
    if value is None:
        raise Refusal(f"Signing in at {url} set no cookie {COOKIE}; see the log of the console.")
    return f"{COOKIE}={value}"


def _visits(context: BrowserContext, address: str) -> list[dict[str, float]]:
    """Open a page VISITS times, and return when it was painted first and when its rows were seen, in milliseconds.

    The first visit, which fills the browser's cache, is left out.
    """
    page = context.new_page()
    page.add_init_script(SEEN)
    found = []
    for _ in range(VISITS + 1):
        page.goto(address)
        page.wait_for_selector("table.timeline tr[data-row]")
        found.append(_until(page, PAINTED, f"{address} is painted"))
    page.close()
    return found[1:]


def _until(page: Page, expression: str, what: str) -> Any:
    """Return what an expression yields on a page once it is something. Raises Refusal where that takes too long."""
    deadline_s = time.monotonic() + PAGE_WITHIN_MS / 1_000
    while (found := page.evaluate(expression)) is None:
        if time.monotonic() > deadline_s:
            raise Refusal(f"It took more than {PAGE_WITHIN_MS // 1_000} s until {what}.")
        page.wait_for_timeout(1_000 * POLL_S)
    return found


@contextmanager
def _listing(url: str, cookie: str) -> Iterator[Requests]:
    """Request lists as a signed-in person while the block runs."""
    chance, deep = random.Random(1), time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 45 * 86_400))

    def request() -> Request:
        path = chance.choice(LISTS).format(deep=deep, customer=chance.randrange(CUSTOMERS))
        return Request("GET", path, cookie=cookie)

    with Requests(url, None, request, connections=LIST_CONNECTIONS, every_s=LIST_EVERY_S) as lists:
        yield lists


def _followed(running: Session, context: BrowserContext, url: str, load: Future[Any]) -> list[float]:
    """Open the pages of orders that have just begun, until the load has ended.

    Returns for each event how long after it happened its row was drawn, in milliseconds and ascending.
    """
    pages = [context.new_page() for _ in range(OPEN_PAGES)]
    for page in pages:
        page.add_init_script(ARRIVALS)
    own, delays_ms = ordering.uniform_orders(seed=4), list[float]()
    with closing(running.checkout_client()) as client:
        while not load.done():
            for page in pages:
                (order_id,) = client.submit([next(own)])
                if order_id is not None:
                    running.follower.accepted([(order_id, time.monotonic())])
                    _open(page, f"{url}/sagas/{order_id}")
            pages[0].wait_for_timeout(1_000 * FOLLOWED_FOR_S)
            for page in pages:
                delays_ms += page.evaluate("() => window.benchArrivals ?? []")
    load.result()
    return sorted(delays_ms)


def _open(page: Page, address: str) -> None:
    """Open the page of an order as soon as the tracker knows it. Raises Refusal where it does not in time."""
    deadline_s = time.monotonic() + KNOWN_WITHIN_S
    while (answer := page.goto(address, wait_until="commit")) is None or answer.status != 200:
        if time.monotonic() > deadline_s:
            raise Refusal(f"{address} is not there after {KNOWN_WITHIN_S:.0f} s; see the log of the console.")


def _errors(listed: Responses) -> int:
    return sum(count for status, count in listed.statuses.items() if status >= 300)


def _rss_mb(running: Session) -> float:
    return float(psutil.Process(running.stack.stack.process_ids()[CONSOLE]).memory_info().rss) / MEBIBYTE
