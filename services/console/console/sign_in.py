"""Signing in and out, and sessions that the provider ends. Everything else needs the session that is made here."""

from __future__ import annotations

import hmac
import secrets

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.http.auth import InvalidToken, KeysUnavailable, Principal
from console import web
from console.access import Console, Visit, act, console_of
from console.provider import LOGOUT_AGE_MAX_S, Proof, ProviderUnavailable, Rejected, Tokens
from console.rights import SIGN_OUT
from console.sessions import ABSOLUTE_S, SIGNING_IN_S, Session, SigningIn

NAME_MAX = 200

log = structlog.get_logger(__name__)


def routes() -> list[Route]:
    """Return the routes."""
    return [
        Route("/sign-in", begin, methods=["GET"]),
        Route("/callback", callback, methods=["GET"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/signed-out", signed_out, methods=["GET"]),
        Route("/back-channel-logout", back_channel_logout, methods=["POST"]),
    ]


async def begin(request: Request) -> Response:
    """Lead the browser to the provider, and remember under a random handle what its answer has to fit."""
    console = console_of(request)
    proof = Proof.new()
    target = web.local_target(request.query_params.get("next", "/"))
    try:
        url = await console.provider.authorize_url(proof)
    except ProviderUnavailable as error:
        return _failed(console, 503, "The identity provider does not answer", str(error))
    handle = await console.sessions.begin_sign_in(
        SigningIn(state=proof.state, nonce=proof.nonce, verifier=proof.verifier, target=target)
    )
    response = RedirectResponse(url, 303)
    web.set_cookie(response, web.SIGNING_IN_COOKIE, handle, max_age_s=SIGNING_IN_S)
    return response


async def callback(request: Request) -> Response:
    """Take the provider's answer, once, and begin a session under a new cookie."""
    console = console_of(request)
    handle = request.cookies.get(web.SIGNING_IN_COOKIE, "")
    signing_in = await console.sessions.take_sign_in(handle) if handle else None
    given = request.query_params
    if signing_in is None or not hmac.compare_digest(given.get("state", ""), signing_in.state):
        return _failed(
            console, 400, "This answer belongs to no sign-in of this browser",
            "It was used already, is older than ten minutes, or was begun in another browser.",
        )  # fmt: skip
    try:
        await _check_issuer(console, given.get("iss"))
        if "code" not in given:
            why = f"The provider answered: {given.get('error', 'nothing')}."
            return _failed(console, 403, "The provider did not sign you in", why)
        session = await _session_of(console, await console.provider.exchange(given["code"], signing_in.verifier),
                                    signing_in.nonce)  # fmt: skip
    except (Rejected, InvalidToken) as error:
        log.warning("A sign-in was refused.", why=str(error))
        return _failed(console, 403, "The sign-in was refused", str(error))
    except (ProviderUnavailable, KeysUnavailable) as error:
        return _failed(console, 503, "The identity provider does not answer", str(error))
    before = request.cookies.get(web.SESSION_COOKIE)
    old = await console.sessions.find(before, now_s=console.clock(), is_use=False) if before else None
    if old is not None:
        await console.sessions.end(old)
    cookie = await console.sessions.begin(session, now_s=console.clock())
    response = RedirectResponse(signing_in.target, 303)
    web.drop_cookie(response, web.SIGNING_IN_COOKIE)
    web.set_cookie(response, web.SESSION_COOKIE, cookie, max_age_s=None)
    log.info("Signed in.", actor=f"{session.issuer}|{session.subject}", roles=session.roles)
    return response


async def _check_issuer(console: Console, issuer: str | None) -> None:
    """Raise Rejected for another provider's answer (RFC 9207)."""
    if issuer is None and not await console.provider.announces_issuer():
        return
    if issuer != console.provider.issuer:
        raise Rejected("The answer is not from the provider to which the browser was sent.")


async def _session_of(console: Console, tokens: Tokens, nonce: str) -> Session:
    """Return the session of a person. The roles are those that the APIs will see. Raises Rejected, InvalidToken, …"""
    claims = await console.provider.identify(tokens.id_token, nonce)
    principal: Principal = await console.verifier.authenticate(tokens.access_token)
    now_s = console.clock()
    return Session(
        digest="",
        issuer=console.provider.issuer,
        subject=str(claims["sub"]),
        name=str(claims.get("name") or claims.get("preferred_username") or principal.subject)[:NAME_MAX],
        sid=str(claims.get("sid", "")),
        roles=tuple(sorted(principal.roles)),
        csrf=secrets.token_urlsafe(32),
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        id_token=tokens.id_token,
        refreshed_at_s=now_s,
        ends_at_s=now_s + ABSOLUTE_S,
    )


@act(SIGN_OUT)
async def sign_out(visit: Visit) -> Response:
    """End the session, then lead the browser to the provider's end of its session.

    The page does that by itself: the answer to a form may not redirect to another site.
    """
    await visit.console.sessions.end(visit.session)
    target = f"{visit.console.settings.console_url}/signed-out"
    try:
        url = await visit.console.provider.end_session_url(visit.session.id_token, target)
    except ProviderUnavailable:
        url = None
    log.info("Signed out.", actor=f"{visit.session.issuer}|{visit.session.subject}")
    response = visit.console.templates.response("signed_out.html", {"provider_url": url})
    web.drop_cookie(response, web.SESSION_COOKIE)
    return response


async def signed_out(request: Request) -> Response:
    """The page after a sign-out."""
    return console_of(request).templates.response("signed_out.html", {"provider_url": None})


async def back_channel_logout(request: Request) -> Response:
    """End sessions that the provider has ended (OpenID Connect Back-Channel Logout 1.0)."""
    console = console_of(request)
    form = await web.form_of(request)
    try:
        claims = await console.provider.logged_out(form.get("logout_token", ""))
    except Rejected as error:
        return Response(str(error), 400, media_type="text/plain")
    except ProviderUnavailable as error:
        return Response(str(error), 503, media_type="text/plain")
    if not await console.sessions.is_first(str(claims["jti"]), within_s=2 * LOGOUT_AGE_MAX_S):
        return Response("This logout token was used already.", 400, media_type="text/plain")
    ended = await console.sessions.end_all(
        console.provider.issuer, sid=str(claims.get("sid", "")), subject=str(claims.get("sub", ""))
    )
    log.info("The provider ended sessions.", count=ended)
    return Response(status_code=200)


def _failed(console: Console, status: int, title: str, why: str) -> Response:
    response = console.templates.response("sign_in_failed.html", {"title": title, "why": why}, status)
    web.drop_cookie(response, web.SIGNING_IN_COOKIE)
    return response
