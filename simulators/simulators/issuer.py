"""The development stack's own issuer of JSON Web Tokens. It authenticates no caller, so it must never be deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.keys import TTL_S_MAX, Algorithm, key_set, mint
from simulators.problems import EXCEPTION_HANDLERS, Text, parse, read_body
from simulators.server import HttpSettings, load, serve

TTL_S_DEFAULT = 3600
ROLES_MAX = 20


class IssuerSettings(HttpSettings):
    """Environment: BARAZA_ISSUER, BARAZA_AUDIENCE, BARAZA_ISSUER_KEYS (a folder)."""

    issuer: str
    audience: str = "baraza"
    issuer_keys: Path


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
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )


def main() -> None:
    """Serve the issuer."""
    settings = load(IssuerSettings)
    serve(build(settings), settings)


if __name__ == "__main__":
    main()
