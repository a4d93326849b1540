"""Who visits a page: the session, fresh roles, and what a person must have for a page or an act.

A page without a session leads to the sign-in; a stream and an act answer 401. An act demands a form of ours, and roles
that were read in the last five minutes.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any
from urllib.parse import quote

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chassis.http.auth import InvalidToken, KeysUnavailable, Verifier
from chassis.http.issuers import Issuers
from console import rights, web
from console.apis import Apis, PersonsApis
from console.provider import Provider, ProviderUnavailable, Rejected
from console.rights import Rights
from console.sessions import Session, Sessions
from console.settings import ConsoleSettings
from console.store import Store
from console.tables import Person
from console.tickets.reporting import Tickets

REFRESH_EVERY_S = 300
"""Roles are read anew this often, so that one that was withdrawn is gone after five minutes."""
REFRESHED_WITHIN_S = 6.0
REFRESH_POLL_S = 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the pages are built from."""

    settings: ConsoleSettings
    sessions: Sessions
    store: Store
    provider: Provider
    verifier: Verifier | Issuers
    apis: Apis
    templates: web.Templates
    rights: Mapping[str, Any]
    clock: Callable[[], float] = time.time
    tickets: Tickets | None = None
    """None where no ITSM is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of a person who is signed in. ``form`` has the fields of an act."""

    request: Request
    console: Console
    session: Session
    rights: Rights
    form: Mapping[str, str]

    @property
    def apis(self) -> PersonsApis:
        """The APIs as this person may use them."""
        return self.console.apis.as_person(self.session.access_token)

    @property
    def person(self) -> Person:
        """Who it is, as views and reveals are stored under."""
        return Person(issuer=self.session.issuer, subject=self.session.subject, name=self.session.name)

    def render(self, name: str, status: int = 200, /, **context: object) -> Response:
        """Return a page."""
        shared = {
            "visit": self,
            "session": self.session,
            "rights": self.rights,
            "path": self.request.url.path,
            "query": self.request.query_params,
            "zone": web.zone_of(self.request),
            "right": rights,
            "screens": SCREENS,
            "address": target_of(self.request),
        }
        return self.console.templates.response(name, {**shared, **context}, status)


SCREENS = (
    ("/", "Now", rights.LOOK), ("/sagas", "Sagas", rights.LOOK), ("/review", "Review", rights.LOOK),
    ("/plans", "Plans", rights.LOOK), ("/letters", "Letters", rights.LOOK), ("/log", "Log", rights.LOOK),
    ("/merchants", "Merchants", rights.MERCHANTS), ("/money", "In doubt", rights.MEMBERS),
    ("/unallocated", "Unallocated", rights.MEMBERS), ("/reconciliation", "Reconciliation", rights.FINANCE),
    ("/finance", "Finance", rights.FINANCE),
)  # fmt: skip
"""The screens in the head of each page: address, name, and the right that it needs."""

Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def console_of(request: Request) -> Console:
    """Return what the pages are built from."""
    found: Console = request.app.state.console
    return found


def target_of(request: Request) -> str:
    """Return the address of a request within the console."""
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def page(right: str) -> Callable[[Handler], Endpoint]:
    """Return the decorator of a page, which needs this right."""

    def decorate(handler: Handler) -> Endpoint:
        @wraps(handler)
        async def endpoint(request: Request) -> Response:
            session = await current_session(request)
            if session is None:
                return RedirectResponse(f"/sign-in?next={quote(target_of(request))}", 303)
            return await handler(visit_of(request, session, right))

        return endpoint

    return decorate


def data(right: str) -> Callable[[Handler], Endpoint]:
    """Return the decorator of what a page's script reads, which needs this right; it answers 401 without a session."""

    def decorate(handler: Handler) -> Endpoint:
        @wraps(handler)
        async def endpoint(request: Request) -> Response:
            # A script that reads by itself does not keep a session alive.
            session = await current_session(request, is_use=False)
            if session is None:
                raise HTTPException(401, "Sign in first.")
            return await handler(visit_of(request, session, right))

        return endpoint

    return decorate


def act(right: str) -> Callable[[Handler], Endpoint]:
    """Return the decorator of an act, which needs this right, a form of ours, and fresh roles."""

    def decorate(handler: Handler) -> Endpoint:
        @wraps(handler)
        async def endpoint(request: Request) -> Response:
            console = console_of(request)
            if not web.is_own_origin(request, console.settings.console_url):
                raise HTTPException(403, "This form comes from another site; nothing was done.")
            session = await current_session(request)
            if session is None:
                raise HTTPException(401, "Your session has ended, so nothing was done. Sign in and repeat it.")
            form = await web.form_of(request)
            if not secrets.compare_digest(form.get("form_token", ""), session.csrf):
                raise HTTPException(403, "This form is not of your session; nothing was done. Open the page anew.")
            visit = visit_of(request, session, right, form)
            if console.clock() - session.refreshed_at_s >= REFRESH_EVERY_S:
                raise HTTPException(
                    503,
                    "Your roles could not be read anew, because the identity provider does not answer; an act needs "
                    "roles of the last five minutes. Nothing was done; try again shortly.",
                )
            return await handler(visit)

        return endpoint

    return decorate


def visit_of(request: Request, session: Session, right: str, form: Mapping[str, str] | None = None) -> Visit:
    """Return the visit of a person, or answer 403 where a right is missing."""
    console = console_of(request)
    found = Visit(
        request=request,
        console=console,
        session=session,
        rights=Rights(frozenset(session.roles), console.rights),
        form=form or {},
    )
    request.scope["visit"] = found
    if not found.rights.has(right):
        raise HTTPException(403, found.rights.why_not(right))
    return found


async def current_session(request: Request, *, is_use: bool = True) -> Session | None:
    """Return the session of a request, with roles that are read anew every five minutes; None without one."""
    console = console_of(request)
    cookie = request.cookies.get(web.SESSION_COOKIE)
    if not cookie:
        return None
    session = await console.sessions.find(cookie, now_s=console.clock(), is_use=is_use)
    if session is None or console.clock() - session.refreshed_at_s < REFRESH_EVERY_S:
        return session
    if await console.sessions.has_failed_lately(session):
        return session
    if not await console.sessions.lock(session):
        return await _refreshed_elsewhere(console, cookie, session)
    try:
        # Between its reading and the lock another request may have refreshed it, and a refresh token is good once.
        latest = await console.sessions.find(cookie, now_s=console.clock(), is_use=False)
        if latest is None or latest.refreshed_at_s != session.refreshed_at_s:
            return latest
        return await refresh(console, latest)
    finally:
        await console.sessions.unlock(session)


async def refresh(console: Console, session: Session) -> Session | None:
    """Return the session with new tokens and the roles in them; None where the provider ended it.

    While the provider does not answer the session stays as it is: it can read, and it cannot act.
    """
    try:
        tokens = await console.provider.refresh(session.refresh_token)
        if tokens.id_token:
            claims = await console.provider.identify(tokens.id_token, None)
            if claims["sub"] != session.subject:
                raise Rejected("The refreshed token is another person's.")
        principal = await console.verifier.authenticate(tokens.access_token)
    except (Rejected, InvalidToken) as error:
        log.info("A session ended at its refresh.", why=str(error))
        await console.sessions.end(session)
        return None
    except (ProviderUnavailable, KeysUnavailable) as error:
        log.warning("A session could not be refreshed.", why=str(error))
        await console.sessions.note_failure(session)
        return session
    now_s = console.clock()
    renewed = replace(
        session,
        roles=tuple(sorted(principal.roles)),
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        id_token=tokens.id_token or session.id_token,
        refreshed_at_s=now_s,
    )
    return renewed if await console.sessions.replace_tokens(renewed, now_s=now_s) else None


async def _refreshed_elsewhere(console: Console, cookie: str, session: Session) -> Session | None:
    """Return the session as another request refreshes it; a refresh token is good once."""
    deadline_s = time.monotonic() + REFRESHED_WITHIN_S
    found: Session | None = session
    while found is not None and found.refreshed_at_s == session.refreshed_at_s and time.monotonic() < deadline_s:
        await asyncio.sleep(REFRESH_POLL_S)
        found = await console.sessions.find(cookie, now_s=console.clock(), is_use=False)
    return found
