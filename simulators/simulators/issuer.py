"""The development stack's own issuer of JSON Web Tokens. It authenticates no caller, so it must never be deployed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.keys import TTL_S_MAX, Algorithm, key_set, mint, signed
from simulators.problems import EXCEPTION_HANDLERS, Text, parse, read_body
from simulators.server import HttpSettings, load, serve
from simulators.sign_in import Client, SignInPages

TTL_S_DEFAULT = 3600
ROLES_MAX = 20
CONSOLE_CLIENT = "baraza-console"


class IssuerSettings(HttpSettings):
    """Environment: BARAZA_ISSUER, BARAZA_AUDIENCE, BARAZA_ISSUER_KEYS (a folder).

    With BARAZA_CONSOLE_URL people sign in there, and BARAZA_CONSOLE_CLIENT_SECRET_FILE has the secret of that client.
    BARAZA_ISSUER_FRONT_URL is where browsers reach this process, BARAZA_CONSOLE_BACK_URL where it reaches the console;
    without them both are as the others.
    """

    issuer: str
    audience: str = "baraza"
    issuer_keys: Path
    issuer_front_url: str = ""
    console_url: str = ""
    console_back_url: str = ""
    console_client_secret_file: Path | None = None


class TokenRequest(BaseModel):
    """The identity that the token is issued for."""

    model_config = ConfigDict(extra="forbid")

    sub: Text
    roles: Annotated[list[Text], Field(max_length=ROLES_MAX)]
    ttl_s: Annotated[int, Field(ge=1, le=TTL_S_MAX)] = TTL_S_DEFAULT
    alg: Algorithm = "RS256"


def build(settings: IssuerSettings) -> Starlette:
    """Return the issuer's ASGI application; creates the keys where they are missing."""
    keys = key_set(settings.issuer_keys)

    async def jwks(_request: Request) -> Response:
        return JSONResponse(keys, headers={"Cache-Control": "public, max-age=300"})

    async def token(request: Request) -> Response:
        wanted = parse(TokenRequest, await read_body(request))
        text = mint(
            settings.issuer_keys,
            settings.issuer,
            settings.audience,
            wanted.sub,
            wanted.roles,
            wanted.ttl_s,
            algorithm=wanted.alg,
        )
        body = {"access_token": text, "token_type": "Bearer", "expires_in": wanted.ttl_s}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    return Starlette(
        routes=[
            Route("/.well-known/jwks.json", jwks, methods=["GET"]),
            Route("/token", token, methods=["POST"]),
            Route("/livez", healthy, methods=["GET"]),
            Route("/readyz", healthy, methods=["GET"]),
            *sign_in_routes(settings),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )


def sign_in_routes(settings: IssuerSettings) -> list[Route]:
    """Return the routes by which people sign in to the console; none where there is no console."""
    if not settings.console_url or settings.console_client_secret_file is None:
        return []
    client = Client(
        client_id=CONSOLE_CLIENT,
        secret=settings.console_client_secret_file.read_text().strip(),
        url=settings.console_url,
        back_url=settings.console_back_url or settings.console_url,
    )
    front_url = settings.issuer_front_url or settings.issuer
    sign = partial(signed, settings.issuer_keys)
    return SignInPages(settings.issuer, front_url, settings.audience, sign, client).routes()


def main() -> None:
    """Serve the issuer."""
    settings = load(IssuerSettings)
    serve(build(settings), settings)


if __name__ == "__main__":
    main()
