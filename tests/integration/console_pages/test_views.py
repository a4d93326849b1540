"""Saved views, and who revealed what: in the console's own database, and while that is away."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from chassis.wire.envelope import new_id
from console.tables import OWN_VIEWS_MAX, QUERY_LENGTH_MAX, SHARED_VIEWS_MAX
from stack import contract, postgres
from support.console_stage import Stage
from support.consoles import Browser
from support.tracker_peers import until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The registry's client, a library, leaves its connections to the garbage collector."""

OPERATOR, SUPPORT, FINANCE, APPROVER = "opal.okafor", "sue.support", "fatma.finance", "ade.approver"
LOGIN = contract.package_of(contract.CONSOLE)
VIEW = re.compile(r'<li><a href="(/sagas[^"]*)"( aria-current="true")?>([^<]+)</a>(.*?)</li>', re.DOTALL)
NUMBER = re.compile(r'action="/views/(\d+)/delete"')
REVEALED = re.compile(r"<tr data-row>.*?</tr>", re.DOTALL)


def connected(stage: Stage, database: str = LOGIN) -> psycopg.Connection[tuple[object, ...]]:
    """Connect as a superuser, with each statement for itself."""
    stack = stage.wire.stack
    server = f"{stack.endpoints.postgres_host}:{stack.endpoints.postgres_port}"
    return psycopg.connect(
        f"postgresql://{postgres.SUPERUSER}@{server}/{database}", password=stack.password(postgres.SUPERUSER),
        autocommit=True,
    )  # fmt: skip


@contextmanager
def without_its_database(stage: Stage) -> Iterator[None]:
    """Let the console's login be refused, and end its sessions. The tracker's database stays."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
    with connected(stage, "postgres") as server:
        server.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(LOGIN)))
        server.execute(end, (LOGIN,))
        try:
            yield
        finally:
            server.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(LOGIN)))


@pytest.fixture(autouse=True)
def no_views(stage: Stage) -> None:
    with connected(stage) as inside:
        inside.execute("DELETE FROM views")


@pytest.fixture(scope="module")
def operator(stage: Stage) -> Browser:
    return stage.console.signed_in(OPERATOR)


@pytest.fixture(scope="module")
def support(stage: Stage) -> Browser:
    return stage.console.signed_in(SUPPORT)


def views_of(browser: Browser, path: str = "/sagas") -> dict[str, tuple[str, bool, str]]:
    """Return the views at the head of a list by their names: the address, whether it is open, and the rest."""
    page = browser.get(path)
    assert page.status_code == 200, page.text
    return {
        html.unescape(name): (html.unescape(url), bool(open_), rest)
        for url, open_, name, rest in VIEW.findall(page.text)
    }


def number_of(rest: str) -> str:
    found = NUMBER.search(rest)
    assert found is not None
    return found[1]


def saved(browser: Browser, name: str, query: str, **form: str) -> int:
    return browser.act("/views", name=name, query=query, **form).status_code


def test_the_filters_of_the_list_are_saved_under_a_name_opened_and_deleted(support: Browser, operator: Browser) -> None:
    query = "state=NEEDS_REVIEW&state=IN_DOUBT&type=order&awaiting=on"
    page = support.get(f"/sagas?{query}").text
    assert "Save these filters as a view" in page
    kept = re.search(r'name="query" value="([^"]+)"', page)
    assert kept is not None
    answer = support.act("/views", name="Stuck <orders>", query=html.unescape(kept[1]))
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sagas")
    (url, is_open, rest) = views_of(support, answer.headers["location"])["Stuck <orders>"]
    assert is_open, "the view whose filters are set is marked"
    assert "Save these filters" not in support.get(url).text
    assert not views_of(support)["Stuck <orders>"][1]
    assert views_of(operator) == {}, "it is one's own"
    assert operator.act(f"/views/{number_of(rest)}/delete").status_code == 404
    assert support.act(f"/views/{number_of(rest)}/delete").headers["location"] == "/sagas"
    assert views_of(support) == {}


def test_a_shared_view_is_seen_by_all_who_look_and_deleted_by_its_owner_or_an_operator(
    stage: Stage, support: Browser, operator: Browser
) -> None:
    finance = stage.console.signed_in(FINANCE)
    assert saved(finance, "Parked", "state=NEEDS_REVIEW", is_shared="on") == 303
    assert saved(finance, "Undone", "state=CANCELLED_COMPENSATED", is_shared="on") == 303
    seen = views_of(support)
    assert list(seen) == ["Parked", "Undone"]
    assert "shared by Fatma" in seen["Parked"][2]
    assert NUMBER.search(seen["Parked"][2]) is None, "support deletes none of another person"
    first, second = (number_of(views_of(finance)[name][2]) for name in ("Parked", "Undone"))
    assert support.act(f"/views/{first}/delete").status_code == 404
    assert operator.act(f"/views/{first}/delete").status_code == 303
    assert finance.act(f"/views/{second}/delete").status_code == 303
    assert views_of(support) == {}


@pytest.mark.parametrize(
    "query",
    [
        "https://example.com/", "//example.com", "/sagas?state=PENDING", "next=//example.com", "cursor=abc", "",
        "state=", "saga_id=1",
    ],
)  # fmt: skip
def test_what_is_no_filter_of_the_list_is_not_saved(support: Browser, query: str) -> None:
    answer = support.act("/views", name="Elsewhere", query=query)
    assert answer.status_code == 422
    assert views_of(support) == {}


def test_what_the_list_would_refuse_is_not_saved_and_the_rest_of_an_address_is_dropped(support: Browser) -> None:
    assert saved(support, "Nonsense", "state=NONSENSE") == 422
    assert saved(support, "Never", "started_after=never") == 422
    assert saved(support, "Mixed", "state=PENDING&cursor=abc&next=//example.com") == 303
    assert views_of(support)["Mixed"][0] == "/sagas?state=PENDING"


def test_a_row_that_was_changed_behind_the_console_leads_to_the_list_all_the_same(
    stage: Stage, support: Browser
) -> None:
    assert saved(support, "Mine", "state=PENDING") == 303
    with connected(stage) as inside:
        inside.execute("UPDATE views SET query = 'https://example.com/?state=CONFIRMED&next=//example.com'")
    assert views_of(support)["Mine"][0] == "/sagas"


def test_names_and_filters_have_limits(support: Browser) -> None:
    assert saved(support, "", "state=PENDING") == 422
    assert saved(support, " ", "state=PENDING") == 422
    assert saved(support, "a" * 61, "state=PENDING") == 422
    assert saved(support, "a\x00b", "state=PENDING") == 422
    assert saved(support, "a\u202eb", "state=PENDING") == 422
    assert saved(support, "Long", f"step={'a' * QUERY_LENGTH_MAX}") == 422
    assert saved(support, "a" * 60, "state=PENDING") == 303
    assert saved(support, "a" * 60, "state=CONFIRMED") == 409, "a name is once"


def test_a_view_that_names_whom_a_saga_is_about_is_not_shared(support: Browser, operator: Browser) -> None:
    for filter_ in ("subject=customer-1", "reference=R1"):
        refused = support.act("/views", name="Her", query=f"state=PENDING&{filter_}", is_shared="on")
        assert (refused.status_code, "Do not share it" in refused.text) == (422, True)
    assert saved(support, "Her", "state=PENDING&subject=customer-1") == 303
    assert "Her" not in views_of(operator)


def test_the_number_of_views_is_limited_for_two_at_once_as_well(stage: Stage, support: Browser) -> None:
    insert = (
        "INSERT INTO views (issuer, subject, person, name, query, is_shared)"
        " SELECT %s, %s, 'x', 'view ' || number, 'state=PENDING', %s FROM generate_series(1, %s) AS number"
    )
    with connected(stage) as inside:
        inside.execute(insert, (stage.console.issuer, SUPPORT, False, OWN_VIEWS_MAX - 1))
    token = support.token()

    def save(name: str) -> int:
        return support.post("/views", {"form_token": token, "name": name, "query": "state=PENDING"}).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(save, ("a", "b", "c", "d")))
    assert answers == [303, 409, 409, 409]
    with connected(stage) as inside:
        inside.execute("DELETE FROM views")
        inside.execute(insert, ("elsewhere", "x", True, SHARED_VIEWS_MAX))
    refused = support.act("/views", name="One more", query="state=PENDING", is_shared="on")
    assert (refused.status_code, "keep it for yourself" in refused.text) == (409, True)
    assert saved(support, "One more", "state=PENDING") == 303


def test_who_revealed_what_is_stored_and_seen_by_those_who_watch_over_it(stage: Stage, operator: Browser) -> None:
    saga_id = stage.begun()
    assert operator.act(f"/sagas/{saga_id}/reveal", reason=" ").status_code == 422
    assert operator.act(f"/sagas/{saga_id}/reveal", reason="her card is 4111111111111111").status_code == 422
    assert operator.act(f"/sagas/{new_id()}/reveal", reason="no such saga").status_code == 404
    assert "customer-1" in operator.act(f"/sagas/{saga_id}/reveal", reason="she <called>", ticket="T-7").text
    with connected(stage) as inside:
        query = "SELECT issuer, subject, reason FROM reveals WHERE saga_id = %s"
        rows = inside.execute(query, (saga_id,)).fetchall()
        with pytest.raises(psycopg.errors.RaiseException, match="stays as it was stored"):
            inside.execute("DELETE FROM reveals")
    assert rows == [(stage.console.issuer, OPERATOR, "T-7: she <called>")]
    for sub in (FINANCE, APPROVER):
        watcher = stage.console.signed_in(sub)
        assert '<a href="/log/reveals">' in watcher.get("/log").text
        page = watcher.get(f"/log/reveals?saga_id={saga_id}").text
        assert page.count("<tr data-row>") == 1
        assert "T-7: she &lt;called&gt;" in page
        assert OPERATOR in page
    assert "this needs finance or approver" in html.unescape(operator.get("/log").text)
    assert operator.get("/log/reveals").status_code == 403


def test_reveals_go_by_pages_and_by_who(stage: Stage) -> None:
    who = f"person-{new_id()}"
    with connected(stage) as inside:
        inside.execute(
            "INSERT INTO reveals (issuer, subject, person, saga_id, reason)"
            " SELECT 'x', %s, 'A Person', 'S' || number, 'why' FROM generate_series(1, 205) AS number",
            (who,),
        )
    finance, address, seen = stage.console.signed_in(FINANCE), f"/log/reveals?actor={who}", list[str]()
    while address:
        page = finance.get(address).text
        seen += re.findall(r'href="/sagas/(S\d+)"', page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        address = html.unescape(older[1]) if older else ""
    assert seen == [f"S{number}" for number in range(205, 0, -1)]
    assert "Nothing matches." in finance.get("/log/reveals?actor=no-such-person").text
    assert finance.get("/log/reveals?cursor=abc").status_code == 422
    assert finance.get(f"/log/reveals?cursor={'9' * 19}").status_code == 422
    assert finance.get("/log/reveals?actor=a%00b").status_code == 422


def test_while_its_database_is_away_lists_work_without_views_and_nothing_is_revealed(
    stage: Stage, support: Browser, operator: Browser
) -> None:
    saga_id = stage.begun()
    assert saved(support, "Mine", "state=PENDING") == 303
    with without_its_database(stage):
        page = support.get("/sagas?state=PENDING")
        assert page.status_code == 200
        assert "Saved views cannot be shown now" in page.text
        assert saga_id in page.text
        assert "Mine" not in page.text
        assert support.get(f"/sagas/{saga_id}").status_code == 200
        refused = operator.act(f"/sagas/{saga_id}/reveal", reason="she is on the phone")
        assert (refused.status_code, "Nothing was revealed" in refused.text) == (503, True)
        assert "customer-1" not in refused.text
        assert saved(support, "More", "state=CONFIRMED") == 503
        assert stage.console.signed_in(FINANCE).get("/log/reveals").status_code == 503
    until(lambda: "Mine" in views_of(support), "the views are back without a restart")
    assert "customer-1" in operator.act(f"/sagas/{saga_id}/reveal", reason="she is on the phone").text
