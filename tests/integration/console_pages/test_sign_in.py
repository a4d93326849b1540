"""Signing in at the console, and what an attacker tries there."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from console.access import REFRESH_EVERY_S
from console.provider import Provider, Registration, Rejected
from console.sessions import ABSOLUTE_S, digest_of
from stack import issuers
from support.apps import App
from support.consoles import SESSION, SIGNING_IN, RunningConsole
from support.waiting import until

OPERATOR, SUPPORT, CUSTOMER = "opal.okafor", "sue.support", "c-66613"
LOGOUT_EVENT: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}


def with_query(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **changes}
    return urlunsplit(parts._replace(query=urlencode({name: value for name, value in query.items() if value})))


def test_a_person_signs_in_and_is_back_at_the_same_address(console: RunningConsole) -> None:
    browser = console.browser()
    begun = browser.get("/sagas?state=PENDING&type=order")
    assert (begun.status_code, urlsplit(begun.headers["location"]).path) == (303, "/sign-in")
    (target,) = parse_qs(urlsplit(begun.headers["location"]).query)["next"]
    answered = browser.sign_in(OPERATOR, target)
    assert (answered.status_code, answered.headers["location"]) == (303, "/sagas?state=PENDING&type=order")
    page = browser.get("/help")
    assert page.status_code == 200
    assert "Opal Okafor · operator, support" in page.text


def test_the_cookies_are_of_this_host_alone_and_no_script_reads_them(console: RunningConsole) -> None:
    browser = console.browser()
    begun = browser.get("/sign-in")
    answered = browser.sign_in(OPERATOR)
    for response, name in ((begun, SIGNING_IN), (answered, SESSION)):
        set_ = [each for each in response.headers.get_list("set-cookie") if each.startswith(f"{name}=")]
        (cookie,) = (each for each in set_ if "Max-Age=0" not in each)
        assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= {each.strip() for each in cookie.split(";")}
        assert "domain" not in cookie.lower()


def test_every_page_has_the_strict_policy_and_is_stored_by_no_cache(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    for path in ("/help", "/signed-out", "/nothing-here", "/sagas"):
        headers = browser.get(path).headers
        assert headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert headers["cache-control"] == "no-store"
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")


def test_an_answer_is_taken_once(console: RunningConsole) -> None:
    browser = console.browser()
    answer = browser.answer_of(OPERATOR)
    handle = browser.cookies[SIGNING_IN]
    assert browser.get(answer).status_code == 303
    replaying = console.browser()
    replaying.cookies[SIGNING_IN] = handle
    replayed = replaying.get(answer)
    assert replayed.status_code == 400
    assert SESSION not in replaying.cookies


def test_the_answer_of_another_browsers_sign_in_is_refused(console: RunningConsole) -> None:
    attacker, victim = console.browser(), console.browser()
    answer = attacker.answer_of(OPERATOR)
    without_any = console.browser().get(answer)
    victim.get("/sign-in")
    with_its_own = victim.get(answer)
    assert (without_any.status_code, with_its_own.status_code) == (400, 400)
    assert SESSION not in victim.cookies


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"state": "another"}, 400),
        ({"state": ""}, 400),
        ({"iss": "https://evil.example"}, 403),
        ({"iss": ""}, 403),
        ({"code": "invented"}, 403),
        ({"code": "", "error": "access_denied"}, 403),
    ],
)
def test_a_changed_answer_begins_no_session(console: RunningConsole, changes: dict[str, str], status: int) -> None:
    browser = console.browser()
    refused = browser.get(with_query(browser.answer_of(OPERATOR), **changes))
    assert refused.status_code == status
    assert SESSION not in browser.cookies


def test_a_code_is_worth_nothing_without_its_verifier(console: RunningConsole) -> None:
    thief, victim = console.browser(), console.browser()
    (code,) = parse_qs(urlsplit(victim.answer_of(OPERATOR)).query)["code"]
    refused = thief.get(with_query(thief.answer_of(SUPPORT), code=code))
    assert refused.status_code == 403
    assert SESSION not in thief.cookies


def test_a_customer_cannot_sign_in_with_the_answer_of_the_customers_issuer(console: RunningConsole) -> None:
    customers = issuers.customers_of(console.issuer)
    app = App(http=console.http, issuer=customers)
    theirs = app.answer_of(CUSTOMER)
    for iss in (customers, console.issuer):
        browser = console.browser()
        answer = with_query(browser.answer_of(SUPPORT), code=theirs["code"], iss=iss)
        assert browser.get(answer).status_code == 403
        assert SESSION not in browser.cookies
    assert app.exchange(theirs)["access_token"], "the code was good, and is not used up by the console"


def test_a_session_that_was_planted_is_not_the_one_that_begins(console: RunningConsole) -> None:
    browser = console.browser()
    browser.cookies[SESSION] = "planted-by-an-attacker"
    browser.sign_in(OPERATOR)
    assert browser.cookies[SESSION] != "planted-by-an-attacker"
    planted = console.browser()
    planted.cookies[SESSION] = "planted-by-an-attacker"
    assert planted.get("/help").status_code == 303


def test_each_sign_in_has_a_new_session_and_the_one_before_it_ends(console: RunningConsole) -> None:
    browser = console.signed_in(SUPPORT)
    before = browser.cookies[SESSION]
    browser.sign_in(OPERATOR)
    assert browser.cookies[SESSION] != before
    old = console.browser()
    old.cookies[SESSION] = before
    assert old.get("/help").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example",
        "/\r\nSet-Cookie: a=b",
        "javascript:alert(1)", "evil.example", "/a\tb", "http:evil.example",
    ],
)  # fmt: skip
def test_a_sign_in_leads_to_no_other_site(console: RunningConsole, target: str) -> None:
    browser = console.browser()
    answered = browser.sign_in(OPERATOR, target)
    assert (answered.status_code, answered.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "null"},
    ],
)
def test_a_form_of_another_site_does_nothing(console: RunningConsole, headers: dict[str, str]) -> None:
    browser = console.signed_in(OPERATOR)
    # Even with the right token, which another site cannot know.
    refused = browser.post("/sign-out", {"form_token": browser.token()}, **headers)
    assert refused.status_code == 403
    assert browser.get("/help").status_code == 200


def test_a_form_without_the_sessions_token_does_nothing(console: RunningConsole) -> None:
    browser, other = console.signed_in(OPERATOR), console.signed_in(OPERATOR)
    for form in ({"other": "1"}, {"form_token": ""}, {"form_token": "invented"}, {"form_token": other.token()}):
        assert browser.post("/sign-out", form).status_code == 403
    assert browser.get("/help").status_code == 200


def test_what_is_no_form_is_refused(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    headers = {**browser._headers(), "origin": console.url, "sec-fetch-site": "same-origin"}
    for content, kind, status in (
        (b"{}", "application/json", 415),
        (b"a=1&a=2", "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
    ):
        sent = console.http.post(f"{console.url}/sign-out", content=content, headers={**headers, "content-type": kind})
        assert sent.status_code == status


def test_who_signs_out_is_out_here_and_at_the_provider(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    cookie = browser.cookies[SESSION]
    page = browser.act("/sign-out")
    assert page.status_code == 200
    assert f"{console.issuer}/end-session?" in page.text
    assert SESSION not in browser.cookies
    kept = console.browser()
    kept.cookies[SESSION] = cookie
    assert kept.get("/help").status_code == 303


def test_redis_has_neither_cookies_nor_tokens_in_clear(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    cookie = browser.cookies[SESSION]
    keys = list(console.redis.scan_iter("console:*"))
    stored = [*keys, *(console.redis.get(key) or b"" for key in keys if console.redis.type(key) == b"string")]
    assert f"console:session:{digest_of(cookie)}".encode() in keys
    clear = b"\n".join(each if isinstance(each, bytes) else str(each).encode() for each in stored)
    for secret in (cookie, "opal.okafor", "Opal Okafor", "eyJhbGciOi", "operator", browser.token()):
        assert secret.encode() not in clear


def test_a_session_ends_after_half_an_hour_without_a_request_and_ten_hours_in_any_case(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    key = f"console:session:{digest_of(browser.cookies[SESSION])}"
    assert 1_700 < console.redis.ttl(key) <= 1_800
    console.redis.expire(key, 60)
    browser.get("/help")
    assert console.redis.ttl(key) > 1_700
    console.clock.later_s = ABSOLUTE_S + 1
    try:
        assert browser.get("/help").status_code == 303
    finally:
        console.clock.later_s = 0
    assert console.redis.exists(key) == 0


def test_a_lost_redis_means_signing_in_again_and_nothing_else(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    console.redis.flushall()
    assert browser.get("/help").status_code == 303
    assert browser.sign_in(OPERATOR, "/help").headers["location"] == "/help"
    assert browser.get("/help").status_code == 200


def test_a_role_that_is_withdrawn_is_gone_at_the_next_refresh(console: RunningConsole) -> None:
    browser = console.signed_in(SUPPORT)
    assert browser.get("/help").status_code == 200
    console.change(SUPPORT, roles=[])
    try:
        assert browser.get("/help").status_code == 200
        console.clock.later_s += REFRESH_EVERY_S
        refused = browser.get("/help")
        assert refused.status_code == 403
        assert "Your roles are none" in refused.text
    finally:
        console.clock.later_s = 0
        console.change(SUPPORT, roles=["support"])


def test_a_person_who_is_disabled_is_signed_out_at_the_next_refresh(console: RunningConsole) -> None:
    browser = console.signed_in(SUPPORT)
    console.change(SUPPORT, enabled=False)
    try:
        console.clock.later_s += REFRESH_EVERY_S
        assert browser.get("/help").status_code == 303
    finally:
        console.clock.later_s = 0
        console.change(SUPPORT, enabled=True)


def test_while_the_provider_is_away_a_session_reads_and_does_not_act(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    token = browser.token()
    console.provider.stop()
    try:
        console.clock.later_s += REFRESH_EVERY_S
        assert browser.get("/help").status_code == 200
        refused = browser.post("/plans", {"form_token": token, "act": "REDRIVE", "group": "00000000"})
        assert refused.status_code == 503
        assert "Your roles could not be read anew" in refused.text
        assert console.browser().get("/sign-in").status_code in (303, 503)
    finally:
        console.provider.start()
        console.clock.later_s = 0


def test_requests_at_once_refresh_the_session_once(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    console.clock.later_s += REFRESH_EVERY_S
    try:
        # A refresh token is good once: a second refresh with it would end the session.
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: browser.get("/help").status_code, range(16)))
        assert answers == [200] * 16
    finally:
        console.clock.later_s = 0


def test_the_provider_ends_a_session_from_outside(console: RunningConsole) -> None:
    browser, other = console.signed_in(SUPPORT), console.signed_in(OPERATOR)
    ended = console.http.post(f"{console.issuer}/people/{SUPPORT}/end-sessions").json()
    assert ended["ended"] >= 1
    until(lambda: browser.get("/help").status_code == 303, "the session is over")
    assert other.get("/help").status_code == 200


def claims_of(console: RunningConsole, **changes: Any) -> dict[str, Any]:
    """Return the claims of a good token of the provider, with changes; None takes a claim away."""
    now_s = int(time.time())
    good = {"iss": console.issuer, "aud": "baraza-console", "sub": OPERATOR, "iat": now_s, "exp": now_s + 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def forged(console: RunningConsole, claims: dict[str, Any]) -> str:
    """Return a token that an attacker has signed, under the provider's kid."""
    kid = console.http.get(f"{console.issuer}/.well-known/jwks.json").json()["keys"][0]["kid"]
    return jwt.encode(claims, generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": kid})


NEVER = "a-token-id-of-a-refused-token"
FLAWS: dict[str, dict[str, Any]] = {
    "audience": {"aud": "baraza"},
    "issuer": {"iss": "https://evil.example"},
    "nonce": {"nonce": "x"},
    "events": {"events": {}},
    "no events": {"events": None},
    "old": {"iat": int(1e9)},
    "expired": {"exp": int(1e9)},
    "of no person": {"sub": ""},
    "no id": {"jti": None},
}


@pytest.mark.parametrize("flaw", [*FLAWS, "forged", "unsigned", "no token"])
def test_a_logout_token_that_is_not_right_ends_nothing(console: RunningConsole, flaw: str) -> None:
    browser = console.signed_in(OPERATOR)
    claims = claims_of(console, **{"jti": NEVER, "events": LOGOUT_EVENT, **FLAWS.get(flaw, {})})
    if flaw == "forged":
        token = forged(console, claims)
    elif flaw == "unsigned":
        token = jwt.encode(claims, "", algorithm="none")
    else:
        token = "" if flaw == "no token" else console.sign(claims)
    refused = console.http.post(f"{console.url}/back-channel-logout", data={"logout_token": token})
    assert refused.status_code == 400, refused.text
    assert browser.get("/help").status_code == 200


def test_a_logout_token_is_good_once(console: RunningConsole) -> None:
    browser = console.signed_in(OPERATOR)
    token = console.sign(claims_of(console, jti="once", events=LOGOUT_EVENT))
    first = console.http.post(f"{console.url}/back-channel-logout", data={"logout_token": token})
    assert first.status_code == 200
    assert browser.get("/help").status_code == 303
    again = console.signed_in(OPERATOR)
    assert console.http.post(f"{console.url}/back-channel-logout", data={"logout_token": token}).status_code == 400
    assert again.get("/help").status_code == 200


async def identified(console: RunningConsole, token: str) -> Any:
    registration = Registration(
        issuer=console.issuer,
        discovery_url=f"{console.issuer}/.well-known/openid-configuration",
        client_id="baraza-console",
        client_secret="",
        redirect_uri=f"{console.url}/callback",
        scope="openid",
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        return await Provider(registration, http).identify(token, "the-nonce")


def test_an_id_token_of_the_provider_identifies_a_person(console: RunningConsole) -> None:
    claims = asyncio.run(identified(console, console.sign(claims_of(console, nonce="the-nonce"))))
    assert claims["sub"] == OPERATOR


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another-sign-in's"}, {"nonce": None}, {"aud": "another-application"}, {"iss": "https://evil.example"},
        {"exp": int(1e9)}, {"exp": None}, {"iat": None}, {"sub": None}, {"iat": int(4e9)},
        {"azp": "another-application"}, {"nbf": int(4e9)},
    ],
    ids=str,
)  # fmt: skip
def test_an_id_token_that_is_not_right_identifies_no_person(console: RunningConsole, changes: dict[str, Any]) -> None:
    token = console.sign(claims_of(console, **{"nonce": "the-nonce", **changes}))
    with pytest.raises(Rejected):
        asyncio.run(identified(console, token))


def test_a_forged_id_token_identifies_no_person(console: RunningConsole) -> None:
    claims = claims_of(console, nonce="the-nonce")
    tokens = [
        forged(console, claims),
        jwt.encode(claims, "", algorithm="none"),
        # A secret of the attacker's, under another algorithm.
        jwt.encode(claims, "x" * 64, algorithm="HS256", headers={"kid": "any"}),
        console.sign(claims)[:-4] + "AAAA",
        "",
    ]
    for token in tokens:
        with pytest.raises(Rejected):
            asyncio.run(identified(console, token))
