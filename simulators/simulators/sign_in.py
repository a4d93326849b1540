"""The development issuers' sign-in page: OpenID Connect's authorization code flow with PKCE, and the end of sessions.

People are clicked on instead of authenticated. What a real provider would refuse is refused here as well, in the same
form: a foreign redirect address, a code that was used, a wrong verifier, a wrong secret.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import urllib.error
import urllib.request
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from html import escape
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from simulators.people import Memory, Request, SignIn, Someone
from simulators.problems import Problem, Text, parse, read_body

ACCESS_TOKEN_S = 300
"""As the console's providers are set up: what a role change has not reached ends after five minutes."""
LOGOUT_S = 120
LOGOUT_TIMEOUT_S = 5.0
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
FORM = "application/x-www-form-urlencoded"
Signer = Callable[[Mapping[str, Any]], str]

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 30rem; margin: 10vh auto; padding: 0 1rem; }
button { display: block; width: 100%; margin: .5rem 0; padding: .7rem 1rem; text-align: left; font: inherit; }
small { opacity: .75; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The one application that people sign in to at an issuer.

    Without a secret it is an app on a person's own device (RFC 8252): it listens on any port of loopback, and its
    verifier alone proves that a code is its own.
    """

    client_id: str
    title: str
    """What its sign-in page is headed with."""
    url: str
    """The application's address in a browser."""
    secret: str = ""
    back_url: str = ""
    """Where this process reaches it for the end of sessions; empty where it cannot be reached."""

    def answers_at(self, redirect_uri: str) -> bool:
        """Return whether an answer may be sent to this address."""
        return self.is_at(redirect_uri) and urlsplit(redirect_uri)[2:] == ("/callback", "", "")

    def is_at(self, url: str) -> bool:
        """Return whether an address is of this application."""
        theirs, own = urlsplit(url), urlsplit(self.url)
        where = (theirs.scheme, theirs.netloc if self.secret else theirs.hostname)
        return where == (own.scheme, own.netloc if self.secret else own.hostname) and "@" not in theirs.netloc


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One issuer: ``name`` is the ``iss`` of its tokens, ``front_url`` where browsers reach it."""

    name: str
    front_url: str
    audience: str
    sign: Signer


class PersonChange(BaseModel):
    """What to change of a person."""

    model_config = ConfigDict(extra="forbid")

    roles: list[Text] | None = None
    enabled: bool | None = None


class SignInPages:
    """The routes of the sign-in, over the keys and the people of one issuer."""

    def __init__(self, issuer: Issuer, people: Sequence[Someone], client: Client) -> None:
        self._issuer = issuer.name
        self._front_url = issuer.front_url
        self._audience = issuer.audience
        self._sign = issuer.sign
        self._client = client
        self._memory = Memory(people={each.sub: each for each in people})
        self._requests: dict[str, Request] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/.well-known/openid-configuration", self._configuration, methods=["GET"]),
            Route("/authorize", self._choose, methods=["GET"]),
            Route("/authorize", self._chosen, methods=["POST"]),
            Route("/oauth/token", self._token, methods=["POST"]),
            Route("/end-session", self._end_session, methods=["GET", "POST"]),
            Route("/people", self._people, methods=["GET"]),
            Route("/people/{sub}", self._change, methods=["POST"]),
            Route("/people/{sub}/end-sessions", self._end_all, methods=["POST"]),
        ]

    async def _configuration(self, _request: HttpRequest) -> Response:
        return JSONResponse(
            {
                "issuer": self._issuer,
                "authorization_endpoint": f"{self._front_url}/authorize",
                "token_endpoint": f"{self._issuer}/oauth/token",
                "end_session_endpoint": f"{self._front_url}/end-session",
                "jwks_uri": f"{self._issuer}/.well-known/jwks.json",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"] if self._client.secret else ["none"],
                "authorization_response_iss_parameter_supported": True,
                "backchannel_logout_supported": bool(self._client.back_url),
                "backchannel_logout_session_supported": bool(self._client.back_url),
            }
        )

    async def _choose(self, request: HttpRequest) -> Response:
        given = request.query_params
        redirect_uri = given.get("redirect_uri", "")
        if given.get("client_id") != self._client.client_id or not self._client.answers_at(redirect_uri):
            # Nothing is sent to an address that is not the client's.
            return _page("Unknown application", "<p>No such client, or not its redirect address.</p>", 400)
        wanted = Request(
            client_id=self._client.client_id,
            redirect_uri=redirect_uri,
            scope=given.get("scope", ""),
            state=given.get("state", ""),
            nonce=given.get("nonce", ""),
            challenge=given.get("code_challenge", ""),
        )
        if given.get("response_type") != "code" or given.get("code_challenge_method") != "S256" or not wanted.challenge:
            return self._back(wanted, {"error": "invalid_request"})
        handle = secrets.token_urlsafe(16)
        while len(self._requests) > 1_000:
            del self._requests[next(iter(self._requests))]
        self._requests[handle] = wanted
        return _page(self._client.title, self._buttons(handle), 200)

    def _buttons(self, handle: str) -> str:
        people = [each for each in self._memory.people.values() if each.enabled]
        buttons = "".join(
            f'<button name="sub" value="{escape(each.sub)}">{escape(each.name)}<br>'
            f"<small>{escape(each.sub)} · {escape(', '.join(each.roles) or 'no role')}</small></button>"
            for each in people
        )
        hidden = f'<input type="hidden" name="request" value="{escape(handle)}">'
        return (
            "<p>The development issuer: it authenticates no one. Choose who you are.</p>"
            f'<form method="post" action="{escape(urlsplit(self._front_url).path)}/authorize">{hidden}{buttons}'
            '<button name="sub" value="">Refuse</button></form>'
        )

    async def _chosen(self, request: HttpRequest) -> Response:
        form = await _form(request)
        wanted = self._requests.pop(form.get("request", ""), None)
        if wanted is None:
            return _page("Too late", "<p>This page was used already; go back to the application.</p>", 400)
        person = self._memory.person(form.get("sub", ""))
        if person is None:
            return self._back(wanted, {"error": "access_denied"})
        return self._back(wanted, {"code": self._memory.code_for(person, wanted)})

    def _back(self, wanted: Request, answer: Mapping[str, str]) -> Response:
        query = urlencode({**answer, "state": wanted.state, "iss": self._issuer})
        return RedirectResponse(f"{wanted.redirect_uri}?{query}", 303)

    async def _token(self, request: HttpRequest) -> Response:
        form = await _form(request)
        if not self._is_client(request, form):
            return _refused("invalid_client", 401)
        if form.get("grant_type") == "refresh_token":
            sign_in = self._memory.refresh(form.get("refresh_token", ""))
            nonce = None
        elif form.get("grant_type") == "authorization_code":
            sign_in = self._memory.redeem(form.get("code", ""))
            if sign_in is not None and not _proves(sign_in.request, form):
                sign_in = None
            nonce = None if sign_in is None else sign_in.request.nonce
        else:
            return _refused("unsupported_grant_type")
        if sign_in is None or self._memory.person(sign_in.sub) is None:
            return _refused("invalid_grant")
        return JSONResponse(self._tokens(sign_in, nonce), headers={"Cache-Control": "no-store"})

    def _is_client(self, request: HttpRequest, form: Mapping[str, str]) -> bool:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            client_id, _, secret = b64decode(encoded).decode().partition(":")
            client_id, secret = unquote_plus(client_id), unquote_plus(secret)
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        return client_id == self._client.client_id and secrets.compare_digest(secret, self._client.secret)

    def _tokens(self, sign_in: SignIn, nonce: str | None) -> dict[str, object]:
        person = self._memory.people[sign_in.sub]
        now_s = int(time.time())
        common = {"iss": self._issuer, "sub": person.sub, "iat": now_s, "exp": now_s + ACCESS_TOKEN_S}
        own: dict[str, Any] = {"name": person.name, "sid": sign_in.sid, "auth_time": now_s}
        if nonce is not None:
            own["nonce"] = nonce
        return {
            "access_token": self._sign({**common, "aud": self._audience, "roles": list(person.roles)}),
            "id_token": self._sign({**common, **own, "aud": self._client.client_id}),
            "refresh_token": self._memory.refresh_token_for(sign_in),
            "token_type": "Bearer",
            "expires_in": ACCESS_TOKEN_S,
            "scope": sign_in.request.scope,
        }

    async def _end_session(self, request: HttpRequest) -> Response:
        given = dict(request.query_params) if request.method == "GET" else await _form(request)
        hinted = _unverified(given.get("id_token_hint", ""))
        if hinted:
            self._end(hinted.get("sub", ""), hinted.get("sid"))
        target = given.get("post_logout_redirect_uri", "")
        if target and self._client.is_at(target):
            return RedirectResponse(target, 303)
        return _page("Signed out", "<p>You are signed out.</p>", 200)

    async def _people(self, _request: HttpRequest) -> Response:
        return JSONResponse([asdict(each) for each in self._memory.people.values()])

    async def _change(self, request: HttpRequest) -> Response:
        wanted = parse(PersonChange, await read_body(request))
        roles = None if wanted.roles is None else tuple(wanted.roles)
        try:
            changed = self._memory.change(request.path_params["sub"], roles=roles, enabled=wanted.enabled)
        except KeyError as error:
            raise Problem(404, "unknown_person", "There is no such person.") from error
        return JSONResponse(asdict(changed))

    async def _end_all(self, request: HttpRequest) -> Response:
        return JSONResponse({"ended": self._end(request.path_params["sub"], None)})

    def _end(self, sub: str, sid: str | None) -> int:
        ended = self._memory.end(sub=sub, sid=sid)
        for each in ended if self._client.back_url else ():
            call = asyncio.create_task(asyncio.to_thread(self._notify, each))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        return len(ended)

    def _notify(self, ended: SignIn) -> None:
        """Send the application a logout token (OpenID Connect Back-Channel Logout 1.0), once."""
        now_s = int(time.time())
        token = self._sign(
            {
                "iss": self._issuer, "aud": self._client.client_id, "sub": ended.sub, "sid": ended.sid, "iat": now_s,
                "exp": now_s + LOGOUT_S, "jti": secrets.token_urlsafe(16), "events": {LOGOUT_EVENT: {}},
            }
        )  # fmt: skip
        body = urlencode({"logout_token": token}).encode()
        call = urllib.request.Request(f"{self._client.back_url}/back-channel-logout", body, {"Content-Type": FORM})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(call, timeout=LOGOUT_TIMEOUT_S).close()
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            print(f"The back-channel logout of {ended.sub} failed: {error}", flush=True)


def _proves(wanted: Request, form: Mapping[str, str]) -> bool:
    """Return whether the exchange has the verifier and the address of the request (RFC 7636)."""
    digest = sha256(form.get("code_verifier", "").encode()).digest()
    challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
    return secrets.compare_digest(challenge, wanted.challenge) and form.get("redirect_uri") == wanted.redirect_uri


def _unverified(token: str) -> dict[str, Any]:
    try:
        return dict(jwt.decode(token, options={"verify_signature": False}))
    except jwt.InvalidTokenError:
        return {}


async def _form(request: HttpRequest) -> dict[str, str]:
    return dict(parse_qsl((await read_body(request)).decode()))


def _refused(error: str, status: int = 400) -> Response:
    return JSONResponse({"error": error}, status, headers={"Cache-Control": "no-store"})


def _page(title: str, body: str, status: int) -> Response:
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><main><h1>{escape(title)}</h1>{body}</main></html>"
    )
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
