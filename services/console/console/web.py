"""What every page shares: templates, headers, cookies, forms. It knows nothing of sagas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console import showing

HERE = Path(__file__).parent
FORM = "application/x-www-form-urlencoded"
FORM_BYTES_MAX = 65_536
"""A reason and some hundred ids."""
SESSION_COOKIE, SIGNING_IN_COOKIE = "__Host-session", "__Host-signing-in"
ZONE_COOKIE = "__Host-zone"
ZONES = ("utc", "local")
POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'",
    )
)  # fmt: skip
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # With "no-referrer" a browser sends "Origin: null" with our own forms, which is what a foreign one looks like.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
STORED, REVALIDATED = "no-store", "no-cache"


class SecureHeaders:
    """Puts the same headers on every response. Pages are stored by no cache; files are revalidated."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cached = REVALIDATED if scope["path"].startswith("/static/") else STORED
        own = [(name.encode(), value.encode()) for name, value in {**HEADERS, "cache-control": cached}.items()]
        names = {name for name, _ in own}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in names]
                message = {**message, "headers": [*kept, *own]}
            await send(message)

        await self._app(scope, receive, with_headers)


class Templates:
    """The pages' templates. An undefined name is an error, and every value is escaped."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(showing.FILTERS)

    def response(self, name: str, context: Mapping[str, object], status: int = 200) -> HTMLResponse:
        """Return a page."""
        return HTMLResponse(self._environment.get_template(name).render(context), status)


def set_cookie(response: Response, name: str, value: str, *, max_age_s: int | None, is_readable: bool = False) -> None:
    """Set a cookie of this host alone. Lax: the provider's redirect brings it along, another site's form does not."""
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=not is_readable, samesite="lax")


def drop_cookie(response: Response, name: str) -> None:
    """Delete a cookie."""
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")


def zone_of(request: Request) -> str:
    """Return the zone in which this browser's user reads times."""
    chosen = request.cookies.get(ZONE_COOKIE, "")
    return chosen if chosen in ZONES else ZONES[0]


def local_target(text: str) -> str:
    """Return an address within the console; the start page for any other, so that no link leads elsewhere."""
    address = urlsplit(text)
    is_path = text.startswith("/") and not text.startswith("//") and not address.scheme and not address.netloc
    if not is_path or "\\" in text or any(ord(letter) < 0x20 for letter in text):
        return "/"
    return text


async def form_of(request: Request) -> dict[str, str]:
    """Return a form's fields. Raises HTTPException for another kind of body, a long one, or a repeated field."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise HTTPException(415, "Send a form.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise HTTPException(413, "The form is too long.")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=100)
    except ValueError as error:
        raise HTTPException(400, "The form cannot be read.") from error
    form = dict(fields)
    if len(form) != len(fields):
        raise HTTPException(400, "A field of the form is there twice.")
    return form


def is_own_origin(request: Request, own_url: str) -> bool:
    """Return whether a request comes from a page of ours, by what the browser reports of it.

    A browser that reports nothing has only the form's token to show.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    return site in (None, "same-origin") and origin in (None, own_url)
