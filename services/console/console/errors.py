"""What a page shows when it cannot show what it is for: four texts for four things that differ.

Not found, not allowed, not running and not answering are never the same page.
"""

from __future__ import annotations

import structlog
from fastapi import FastAPI
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from console.access import console_of
from console.apis import ApiProblem
from console.provider import ProviderUnavailable
from console.store import StoreUnavailable

TITLES = {
    400: "The request cannot be read",
    401: "Sign in first",
    403: "Not with your rights",
    404: "There is nothing here",
    405: "Not in this way",
    413: "Too long",
    415: "Not a form",
    503: "Not now",
}
RETRY_AFTER_S = "10"

log = structlog.get_logger(__name__)


def install(app: FastAPI) -> None:
    """Let the application answer errors with pages."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ApiProblem, _api)
    app.add_exception_handler(RedisError, _redis)
    app.add_exception_handler(ProviderUnavailable, _provider)
    app.add_exception_handler(StoreUnavailable, _store)
    app.add_exception_handler(Exception, _unexpected)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = TITLES.get(error.status_code, "It did not work")
    return _page(request, error.status_code, title, str(error.detail))


async def _api(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiProblem)
    if error.status == 401:
        return _page(request, 401, "The service does not accept your sign-in", "Sign in again; nothing was done.")
    return _page(request, error.status, error.title, error.detail)


async def _redis(request: Request, error: Exception) -> Response:
    log.warning("Redis does not answer.", error=type(error).__name__)
    return _page(request, 503, "Not now", "The sessions cannot be read. Try again shortly; nothing was done.")


async def _provider(request: Request, error: Exception) -> Response:
    return _page(request, 503, "The identity provider does not answer", str(error))


async def _store(request: Request, error: Exception) -> Response:
    return _page(request, 503, "Not now", str(error))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("A page failed.", path=request.url.path, exc_info=error)
    return _page(request, 500, "This page failed", "It is our fault, and it is logged. Nothing was done.")


def _page(request: Request, status: int, title: str, detail: str) -> Response:
    if "text/html" not in request.headers.get("accept", "*/*") and "*/*" not in request.headers.get("accept", "*/*"):
        response: Response = PlainTextResponse(detail, status)
    elif (visit := request.scope.get("visit")) is not None:
        response = visit.render("error.html", status, title=title, detail=detail, code=status)
    else:
        context = {"title": title, "detail": detail, "code": status}
        response = console_of(request).templates.response("error_outside.html", context, status)
    if status == 503:
        response.headers["Retry-After"] = RETRY_AFTER_S
    return response
