"""What needs no token at Daraja: tokens themselves, the certificate, and what an operator does in the portal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from simulators.daraja import c2b, credentials, tokens
from simulators.mobile.server import Provider
from simulators.problems import Problem
from simulators.records import JsonObject


def routes(provider: Provider) -> Sequence[Route]:
    """Return the routes; the certificate is made at the first start."""
    records = provider.records
    with records.transaction():
        certificate = credentials.ensure(records, provider.clock.real())

    async def show_certificate(_request: Request) -> Response:
        return PlainTextResponse(certificate, media_type="application/x-pem-file")

    async def show_urls(request: Request) -> Response:
        return JSONResponse(records.kept_under(c2b.urls_of(_known(provider, request))))

    async def unlock(request: Request) -> Response:
        short_code = _known(provider, request)
        with records.transaction():
            credentials.unlock(records, short_code)
        return Response(status_code=204)

    validation = "/admin/validation/{short_code}"
    return (
        Route("/oauth/v1/generate", tokens.endpoint(provider), methods=["GET"]),
        Route("/certificate", show_certificate, methods=["GET"]),
        Route("/admin/urls/{short_code}", show_urls, methods=["GET"]),
        Route("/admin/urls/{short_code}", _keeping(provider, c2b.urls_of, None), methods=["DELETE"]),
        Route(validation, _keeping(provider, c2b.validation_of, {"is_enabled": True}), methods=["POST"]),
        Route(validation, _keeping(provider, c2b.validation_of, None), methods=["DELETE"]),
        Route("/admin/initiators/{short_code}/unlock", unlock, methods=["POST"]),
    )


def _keeping(
    provider: Provider, name: Callable[[str], str], content: JsonObject | None
) -> Callable[[Request], Awaitable[Response]]:
    """Return what keeps something for a short code, or deletes it."""

    async def keep(request: Request) -> Response:
        short_code = _known(provider, request)
        with provider.records.transaction():
            provider.records.keep_under(name(short_code), content)
        return Response(status_code=204)

    return keep


def _known(provider: Provider, request: Request) -> str:
    short_code: str = request.path_params["short_code"]
    if provider.short_codes.numbered(short_code) is None:
        raise Problem(404, "short_code_not_found", f"There is no short code {short_code!r}.")
    return short_code
