"""The console's pages over HTTP, in front of a real tracker: each page's job from start to end, without a browser."""

from __future__ import annotations

import html
import json
import re
import time
from typing import Any

import httpx
import pytest

from chassis.wire.envelope import new_id
from messages import checkout
from support.console_stage import Stage
from support.consoles import Browser
from support.tracker_peers import message, until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

OPERATOR, SUPPORT = "opal.okafor", "sue.support"
DRAWING = re.compile(r'<script type="application/json">(.*?)</script>', re.DOTALL)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


def drawing_of(page: str) -> Any:
    found = DRAWING.search(page)
    assert found is not None
    return json.loads(found[1])


def hidden(page: str) -> dict[str, str]:
    """Return the hidden fields of the last form of a page."""
    return {name: html.unescape(value) for name, value in HIDDEN.findall(page.rpartition("<form")[2])}


@pytest.fixture(scope="module")
def operator(stage: Stage) -> Browser:
    return stage.console.signed_in(OPERATOR)


@pytest.fixture(scope="module")
def undone(stage: Stage) -> str:
    return stage.compensated()


def test_a_compensated_order_is_explained(operator: Browser, undone: str) -> None:
    page = operator.get(f"/sagas/{undone}").text
    assert "Cancelled, all undone" in page
    assert "a step was refused" in page
    assert "What had run was undone." in page
    assert page.count("<span>undone</span>") == 3
    assert "<span>refused</span>" in page
    drawing = drawing_of(page)
    assert drawing["lanes"][0] == "checkout"
    assert drawing["lanes"][-1] == "saga-tracker"
    kinds = [(entry["kind"], entry["service"]) for entry in drawing["entries"]]
    assert kinds.count(("command", "saga-tracker")) >= 3
    events = [each for each in drawing["entries"] if each["kind"] == "event" and each["service"] != "saga-tracker"]
    assert len(events) == 5
    assert all(entry["offset"] is not None for entry in events)
    assert drawing["rejections"]


def test_the_evidence_sheet_proves_what_ran_and_what_undid_it(operator: Browser, undone: str) -> None:
    sheet = operator.get(f"/sagas/{undone}/evidence").text
    entries = drawing_of(operator.get(f"/sagas/{undone}").text)["entries"]
    for entry in entries:
        if entry["step"] and entry["kind"] in ("event", "reply"):
            assert entry["message_id"] in sheet
            assert f"{entry['topic']}/{entry['partition']}/{entry['offset']}" in sheet


def test_whom_a_saga_is_about_is_hidden_until_it_is_revealed_with_a_reason(operator: Browser, undone: str) -> None:
    page = operator.get(f"/sagas/{undone}").text
    assert "customer-1" not in page
    assert "cu•••-1" in page
    assert "customer-1" not in operator.get(f"/sagas/{undone}/timeline.json").text
    assert operator.act(f"/sagas/{undone}/reveal", reason=" ").status_code == 422
    revealed = operator.act(f"/sagas/{undone}/reveal", reason="she is on the phone")
    assert "customer-1" in revealed.text
    assert "customer-1" not in operator.get(f"/sagas/{undone}").text


def test_a_saga_is_cancelled_in_three_steps_and_nothing_is_sent_before_the_last(
    stage: Stage, operator: Browser
) -> None:
    saga_id = stage.begun()
    asked = operator.get(f"/sagas/{saga_id}/cancel")
    assert "Nothing is sent yet" in asked.text
    assert operator.act(f"/sagas/{saga_id}/cancel", reason="").status_code == 422
    shown = operator.act(f"/sagas/{saga_id}/cancel", reason="the customer called", ticket="INC-1")
    assert "Undo authorize_payment, if it ran, in payment" in shown.text
    assert not [entry for entry in stage.wire.timeline(saga_id) if entry.kind == "act"]
    applied = operator.post(f"/sagas/{saga_id}/cancel/apply", hidden(shown.text))
    assert (applied.status_code, applied.headers["location"]) == (303, f"/sagas/{saga_id}?done=cancel")
    (act,) = until(
        lambda: [entry for entry in stage.wire.timeline(saga_id) if entry.kind == "act"], "the act is recorded"
    )
    # The name is the session's, whatever a form has.
    assert act.detail == f"{OPERATOR}: INC-1: the customer called"


def test_an_act_that_is_not_possible_says_why(operator: Browser, stage: Stage, undone: str) -> None:
    page = operator.get(f"/sagas/{undone}").text
    assert "It has ended." in page
    assert operator.get(f"/sagas/{undone}/cancel").status_code == 409
    assert operator.act(f"/sagas/{undone}/cancel/apply", reason="again").status_code == 409
    support = stage.console.signed_in(SUPPORT)
    assert "Your roles are support; this needs operator." in html.unescape(support.get(f"/sagas/{undone}").text)


def test_a_saga_is_found_by_its_id_and_what_is_not_found_is_said(operator: Browser, undone: str) -> None:
    found = operator.get(f"/find?q=%20{undone.lower()}%20")
    assert (found.status_code, found.headers["location"]) == (303, f"/sagas/{undone}")
    nothing = operator.get("/find?q=no-such-thing").text
    assert "Nothing has this number or name." in nothing


def test_the_list_keeps_its_filters_in_the_address_and_goes_by_pages(stage: Stage, operator: Browser) -> None:
    customer = f"customer-{new_id()}"
    mine = [new_id() for _ in range(52)]
    stage.wire.publish(*(message(checkout.OrderSubmitted, saga_id, customer_id=customer) for saga_id in mine))
    until(lambda: all(stage.wire.saga(saga_id) for saga_id in mine), "all are recorded")
    seen: list[str] = []
    address = f"/sagas?subject={customer}"
    while address:
        page = operator.get(address).text
        seen += re.findall(r'<a class="id" href="/sagas/(\w+)">', page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        address = html.unescape(older[1]) if older else ""
        assert not address or f"subject={customer}" in address
    assert sorted(seen) == sorted(mine)
    nothing = operator.get(f"/sagas?subject={customer}&state=CONFIRMED").text
    assert "<strong>Nothing matches.</strong> 2 filters are set" in nothing


def test_an_unknown_saga_and_an_invalid_filter_have_pages_of_their_own(operator: Browser) -> None:
    unknown = operator.get(f"/sagas/{new_id()}")
    assert (unknown.status_code, "No saga has that id" in unknown.text) == (404, True)
    assert operator.get("/sagas?state=NONSENSE").status_code == 422
    assert operator.get("/sagas/..%2f..").status_code == 404


def test_every_list_page_answers(operator: Browser) -> None:
    for path in ("/", "/review", "/plans", "/letters", "/log", "/definitions/order", "/help", "/sagas"):
        page = operator.get(path)
        assert page.status_code == 200, path
    assert "Everything before" in operator.get("/").text


def test_a_live_timeline_comes_through_the_console_and_ends_with_the_session(stage: Stage) -> None:
    saga_id = stage.begun()
    browser = stage.console.signed_in(SUPPORT)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    with stage.console.http.stream(
        "GET", f"{stage.console.url}/sagas/{saga_id}/stream", headers={"cookie": cookie}, timeout=httpx.Timeout(60)
    ) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data:") and "OrderSubmitted" in line)
        assert saga_id not in first  # an entry is of the saga that the address names
        stage.console.http.post(f"{stage.console.issuer}/people/{SUPPORT}/end-sessions").raise_for_status()
        ended_at_s = time.monotonic()
        for _ in lines:
            assert time.monotonic() - ended_at_s < 30, "the stream outlives its session"
    assert browser.get(f"/sagas/{saga_id}").status_code == 303


def test_where_the_tracker_does_not_answer_the_page_says_so(stage: Stage, operator: Browser) -> None:
    stage.wire.stack.stop("saga-tracker-api")
    try:
        page = operator.get("/sagas")
        assert (page.status_code, "saga-tracker-api does not answer" in page.text) == (503, True)
    finally:
        stage.wire.stack.start("saga-tracker-api")
    assert operator.get("/sagas").status_code == 200
