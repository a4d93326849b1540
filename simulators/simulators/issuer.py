"""The development stack's own issuers of JSON Web Tokens, staff's and customers': two names, two key sets, one process.

They authenticate no caller, and their tokens claim whatever is requested, so they must never be deployed. What a token
may claim is for its readers to decide: each service confines both (``BARAZA_ISSUERS``).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from simulators.keys import TTL_S_MAX, Algorithm, key_set, mint, signed
from simulators.people import CUSTOMERS, STAFF
from simulators.problems import EXCEPTION_HANDLERS, Text, parse, read_body
from simulators.server import HttpSettings, load, serve
from simulators.sign_in import Client, Issuer, SignInPages

TTL_S_DEFAULT = 3600
ROLES_MAX = 20
CUSTOMERS_PATH = "/customers"
"""Where the customers' issuer is below the staff's; its keys are in a folder of that name."""
CONSOLE_CLIENT = "baraza-console"
APP_CLIENT = "baraza-app"
"""The customers' application: any program on a developer's machine."""
LOOPBACK_URL = "http://127.0.0.1"


class IssuerSettings(HttpSettings):
    """Environment: BARAZA_ISSUER, BARAZA_AUDIENCE, BARAZA_ISSUER_KEYS (a folder).

    BARAZA_ISSUER is the staff's; the customers' is below it, at ``/customers``. With BARAZA_CONSOLE_URL staff sign in
    there, and BARAZA_CONSOLE_CLIENT_SECRET_FILE has the secret of that client. BARAZA_ISSUER_FRONT_URL is where
    browsers reach this process, BARAZA_CONSOLE_BACK_URL where it reaches the console; without them both are as the
    others.
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
    """Return the ASGI application of both issuers; creates the keys where they are missing."""

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    staff, customers = settings.issuer_keys, settings.issuer_keys / CUSTOMERS_PATH.strip("/")
    return Starlette(
        routes=[
            Route("/livez", healthy, methods=["GET"]),
            Route("/readyz", healthy, methods=["GET"]),
            Mount(
                CUSTOMERS_PATH,
                routes=[
                    *token_routes(settings, customers, CUSTOMERS_PATH),
                    *customers_sign_in_routes(settings, customers),
                ],
            ),
            *token_routes(settings, staff, ""),
            *sign_in_routes(settings),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )


def token_routes(settings: IssuerSettings, folder: Path, path: str) -> list[Route]:
    """Return the routes of one issuer's keys and tokens; creates its keys where they are missing."""
    keys = key_set(folder)

    async def jwks(_request: Request) -> Response:
        return JSONResponse(keys, headers={"Cache-Control": "public, max-age=300"})

    async def token(request: Request) -> Response:
        wanted = parse(TokenRequest, await read_body(request))
        text = mint(
            folder,
            f"{settings.issuer}{path}",
            settings.audience,
            wanted.sub,
            wanted.roles,
            wanted.ttl_s,
            algorithm=wanted.alg,
        )
        body = {"access_token": text, "token_type": "Bearer", "expires_in": wanted.ttl_s}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    return [
        Route("/.well-known/jwks.json", jwks, methods=["GET"]),
        Route("/token", token, methods=["POST"]),
    ]


def sign_in_routes(settings: IssuerSettings) -> list[Route]:
    """Return the routes by which staff sign in to the console; none where there is no console."""
    if not settings.console_url or settings.console_client_secret_file is None:
        return []
    client = Client(
        client_id=CONSOLE_CLIENT,
        title="Sign in to Baraza",
        secret=settings.console_client_secret_file.read_text().strip(),
        url=settings.console_url,
        back_url=settings.console_back_url or settings.console_url,
    )
    return SignInPages(_issuer(settings, settings.issuer_keys, ""), STAFF, client).routes()


def customers_sign_in_routes(settings: IssuerSettings, folder: Path) -> list[Route]:
    """Return the routes by which customers sign in to an application on this machine."""
    client = Client(client_id=APP_CLIENT, title="Sign in to the shop", url=LOOPBACK_URL)
    return SignInPages(_issuer(settings, folder, CUSTOMERS_PATH), CUSTOMERS, client).routes()


def _issuer(settings: IssuerSettings, folder: Path, path: str) -> Issuer:
    return Issuer(
        name=f"{settings.issuer}{path}",
        front_url=f"{settings.issuer_front_url or settings.issuer}{path}",
        audience=settings.audience,
        sign=partial(signed, folder),
    )


def main() -> None:
    """Serve the issuers."""
    settings = load(IssuerSettings)
    serve(build(settings), settings)


if __name__ == "__main__":
    main()
