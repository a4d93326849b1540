"""Every route of the console: what it answers without a session, and to a person who lacks the role."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.routing import Mount, Route

from console import pages, sign_in
from support.consoles import Browser, RunningConsole

OPEN = {
    ("GET", "/sign-in"), ("GET", "/callback"), ("GET", "/signed-out"), ("POST", "/back-channel-logout"),
}  # fmt: skip
"""They are how a person signs in, and how the provider signs one out."""
ANYONE = {("POST", "/sign-out"), ("POST", "/zone")}
"""What needs a session alone."""
SCRIPTS = {"/sagas/{saga_id}/head", "/sagas/{saga_id}/timeline.json", "/sagas/{saga_id}/stream"}
"""What a page's script reads: it is not led to the sign-in."""
ACTS_OF_SUPPORT = {"/sagas/{saga_id}/cancel", "/sagas/{saga_id}/cancel/apply", "/sagas/{saga_id}/reveal"}
ACTS_OF_FINANCE = {
    "/divergences/{divergence_id}/close", "/proposals/assignments/{proposal_id}/refusal",
    "/proposals/returns/{proposal_id}/refusal",
}  # fmt: skip
ACTS_OF_ALL = {"/views", "/views/{view_id}/delete"}
"""Who may look saves views of their own."""
NEW, SUPPORT, OPERATOR = "noor.new", "sue.support", "opal.okafor"
FINANCE, APPROVER, TELLER = "fatma.finance", "ade.approver", "tessa.teller"


def routes() -> Iterator[tuple[str, str]]:
    """Yield every method and path of the console."""
    for route in (*sign_in.routes(), *pages.routes()):
        assert isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}:
            yield method, route.path


EVERY = sorted(routes())
GUARDED = [each for each in EVERY if each not in OPEN]


def at(path: str) -> str:
    known = {"name": "order", "run": "1", "payment_id": "1", "merchant_id": "duka", "mode": "live", "receipt": "R" * 10}
    return re.sub(r"{(\w+)}", lambda found: known.get(found[1], "0" * 26), path)


def answered(browser: Browser, method: str, path: str, token: str = "") -> int:
    sent = browser.get(at(path)) if method == "GET" else browser.post(at(path), {"form_token": token, "reason": "why"})
    return sent.status_code


@pytest.fixture(scope="module")
def new(console: RunningConsole) -> Browser:
    """Someone of staff who has no role."""
    return console.signed_in(NEW)


def test_the_walk_meets_every_route_of_the_application() -> None:
    assert len(EVERY) > 30
    assert set(EVERY) >= OPEN | ANYONE
    assert not any(isinstance(route, Mount) for route in pages.routes())


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=" ".join)
def test_without_a_session_a_page_leads_to_the_sign_in_and_all_else_is_401(
    console: RunningConsole, method: str, path: str
) -> None:
    wanted = 303 if method == "GET" and path not in SCRIPTS else 401
    assert answered(console.browser(), method, path) == wanted


@pytest.mark.parametrize(("method", "path"), [each for each in GUARDED if each not in ANYONE], ids=" ".join)
def test_who_has_no_role_sees_and_does_nothing(new: Browser, method: str, path: str) -> None:
    assert answered(new, method, path, new.token()) == 403


def test_a_role_that_the_staffs_issuer_may_not_give_is_none(console: RunningConsole) -> None:
    console.change(NEW, roles=["customer", "root"])
    try:
        refused = console.signed_in(NEW).get("/sagas")
    finally:
        console.change(NEW, roles=[])
    assert refused.status_code == 403
    assert "Your roles are none" in refused.text


@pytest.mark.parametrize("sub", [SUPPORT, FINANCE])
def test_who_may_not_operate_is_refused_each_act(console: RunningConsole, sub: str) -> None:
    browser = console.signed_in(sub)
    token = browser.token()
    allowed = ACTS_OF_ALL | (ACTS_OF_SUPPORT if sub == SUPPORT else ACTS_OF_FINANCE)
    for method, path in GUARDED:
        if method == "POST" and (method, path) not in ANYONE and path not in allowed:
            assert answered(browser, method, path, token) == 403, path


def test_the_books_are_for_finance_alone(console: RunningConsole) -> None:
    assert answered(console.signed_in(SUPPORT), "GET", "/finance") == 403
    assert answered(console.signed_in(FINANCE), "GET", "/finance") == 200


@pytest.mark.parametrize(
    ("sub", "status"), [(SUPPORT, 403), (OPERATOR, 403), (TELLER, 403), (FINANCE, 503), (APPROVER, 503)]
)
def test_who_revealed_what_is_for_finance_and_approvers_alone(console: RunningConsole, sub: str, status: int) -> None:
    """This console's database is away, so those who may see it learn that."""
    browser = console.signed_in(sub)
    answer = browser.get("/log/reveals")
    assert answer.status_code == status
    if status == 503:
        assert "own database does not answer" in answer.text


@pytest.mark.parametrize("path", ["/views", "/views/1/delete"])
def test_who_may_not_look_saves_no_view(console: RunningConsole, path: str) -> None:
    browser = console.signed_in(TELLER)
    assert answered(browser, "POST", path, browser.token()) == 403
