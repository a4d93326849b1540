"""The console in Chromium: what a person does with it, and that it complains of nothing. Both colour schemes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from messages.contract import Message
from support.browsers import complaints_of
from support.console_stage import Stage
from support.tracker_peers import successes

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def signed_in(
    browser: Browser, stage: Stage, name: str, *, scheme: str = "light", scripts: bool = True, phone: bool = False
) -> Iterator[Page]:
    """Yield a page on which a person has signed in by clicks; at the end it must have complained of nothing."""
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
        viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    complaints = complaints_of(page)
    try:
        page.goto(f"{stage.console.url}/")
        page.get_by_role("button", name=name).click()
        page.wait_for_url(f"{stage.console.url}/")
        yield page
        assert complaints == []
    finally:
        context.close()


@pytest.fixture(scope="module")
def undone(stage: Stage) -> str:
    return stage.compensated()


def test_support_finds_a_compensated_order_and_explains_it(browser: Browser, stage: Stage, undone: str) -> None:
    with signed_in(browser, stage, "Sue Sanga") as page:
        page.keyboard.press("/")
        page.keyboard.type(undone)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/sagas/{undone}")
        expect(page.locator("#sentence")).to_contain_text("What had run was undone")
        rows = page.locator("table.timeline tr[data-row]")
        expect(rows.first).to_be_visible()
        failure = page.locator("table.timeline tr.failure")
        expect(failure).to_have_count(1)
        failure.locator("button").click()
        record = page.locator("aside.record")
        expect(record).to_contain_text("offset")
        # Choosing dims all but the chain: the events before it stay.
        expect(page.locator("table.timeline tr.forward.dim")).to_have_count(0)
        page.keyboard.press("c")
        expect(page.locator("table.timeline tr.chosen.forward")).to_have_count(1)
        assert "#e" in page.url
        page.keyboard.press("Escape")
        expect(record).to_contain_text("Choose an entry")


def test_an_order_is_cancelled_with_a_reason_and_its_timeline_shows_it_by_itself(
    browser: Browser, stage: Stage
) -> None:
    saga_id = stage.begun()
    with signed_in(browser, stage, "Opal Okafor") as page:
        page.goto(f"{stage.console.url}/sagas/{saga_id}")
        page.get_by_role("link", name="Cancel…").click()
        page.get_by_label("Why?").fill("the customer called")
        page.get_by_role("button", name="Show what will be sent").click()
        expect(page.get_by_text("CancelSaga to the tracker")).to_be_visible()
        page.get_by_role("button", name="Apply: cancel").click()
        expect(page.locator(".flash")).to_contain_text("Requested: cancel")
        expect(page.locator("table.timeline tr.act")).to_contain_text("the customer called")
        expect(page.locator("table.timeline")).to_contain_text("Fence:")


def test_a_new_event_appears_by_itself_and_once(browser: Browser, stage: Stage) -> None:
    saga_id = stage.begun()
    events: list[Message] = successes(saga_id)
    with signed_in(browser, stage, "Opal Okafor") as page:
        page.goto(f"{stage.console.url}/sagas/{saga_id}")
        rows = page.locator("table.timeline tr[data-row]")
        expect(rows).to_have_count(2)
        stage.wire.publish(*events[2:])
        expect(page.locator("#head .badge")).to_contain_text("Confirmed")
        expect(rows.filter(has_text=type(events[2]).__name__)).to_have_count(1)


def test_eight_tabs_of_orders_under_way_all_open(browser: Browser, stage: Stage) -> None:
    saga_id = stage.begun()
    with signed_in(browser, stage, "Opal Okafor") as page:
        for _ in range(8):
            # A browser has six connections to a server, and all of these tabs count as visible.
            tab = page.context.new_page()
            tab.goto(f"{stage.console.url}/sagas/{saga_id}")
            expect(tab.locator("table.timeline tr[data-row]").first).to_be_visible()
        expect(tab.locator(".connection")).to_contain_text("4 other tabs are live")
        stage.wire.publish(successes(saga_id)[2])
        expect(tab.locator("table.timeline")).to_contain_text("InventoryReserved")


def test_without_scripts_an_order_is_read_and_cancelled(browser: Browser, stage: Stage) -> None:
    saga_id = stage.begun()
    with signed_in(browser, stage, "Opal Okafor", scripts=False) as page:
        page.goto(f"{stage.console.url}/sagas?state=PENDING")
        page.goto(f"{stage.console.url}/sagas/{saga_id}")
        expect(page.locator("td", has_text="OrderSubmitted").first).to_be_visible()
        page.get_by_role("link", name="Cancel…").click()
        page.get_by_label("Why?").fill("no scripts here")
        page.get_by_role("button", name="Show what will be sent").click()
        page.get_by_role("button", name="Apply: cancel").click()
        expect(page.locator(".flash")).to_contain_text("Requested: cancel")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_on_any_page(
    browser: Browser, stage: Stage, undone: str, scheme: str, pictures: Path
) -> None:
    pages = {
        "now": "/", "sagas": "/sagas", "saga": f"/sagas/{undone}", "evidence": f"/sagas/{undone}/evidence",
        "review": "/review", "plans": "/plans", "letters": "/letters", "log": "/log", "find": "/find?q=nothing-here",
        "definition": "/definitions/order", "help": "/help", "views": "/sagas?state=CANCELLED_COMPENSATED",
    }  # fmt: skip
    folder = Path(os.environ.get("BARAZA_PICTURES", str(pictures)))
    folder.mkdir(parents=True, exist_ok=True)
    with signed_in(browser, stage, "Opal Okafor", scheme=scheme) as page:
        for name, path in pages.items():
            page.goto(f"{stage.console.url}{path}")
            if name == "saga":
                # What is dimmed while an entry is chosen must be readable as well.
                page.locator("table.timeline tr.failure button").click()
            if name == "views":
                page.get_by_text("Save these filters as a view…").click()
                page.get_by_label("Name").fill(f"Undone, {scheme}")
                page.get_by_role("button", name="Save").click()
                page.locator(".views summary").first.click()
            judge(page, folder / f"{name}-{scheme}.png")
    with signed_in(browser, stage, "Fatma Farah", scheme=scheme) as page:
        page.goto(f"{stage.console.url}/log/reveals")
        judge(page, folder / f"reveals-{scheme}.png")


def judge(page: Page, picture: Path) -> None:
    """Take a picture of a page, and let axe find no violation on it."""
    page.screenshot(path=str(picture), full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, f"{picture.stem}: {found.generate_report()}"


def test_on_a_phone_the_lanes_become_a_list(browser: Browser, stage: Stage, undone: str, pictures: Path) -> None:
    with signed_in(browser, stage, "Sue Sanga", phone=True) as page:
        page.goto(f"{stage.console.url}/sagas/{undone}")
        row = page.locator("table.timeline tr[data-row]").first
        expect(row.locator(".place")).to_be_visible()
        expect(row.locator("svg.lanes")).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.screenshot(path=str(pictures / "saga-phone.png"), full_page=True)
