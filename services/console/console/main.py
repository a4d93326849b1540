"""The console's process: reads the settings, wires the pages to Redis, the provider and the APIs, and serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from chassis.http import health
from chassis.http.auth import Verifier
from chassis.http.issuers import Issuers, general_verifier
from chassis.http.server import server_of
from chassis.postgres import database
from chassis.telemetry import logs, metrics
from chassis.wire.redis import RedisLogin
from console import errors, pages, rights, sign_in, web
from console.access import Console
from console.apis import CONNECTIONS_MAX, Apis
from console.provider import Provider, Registration
from console.sessions import Sessions
from console.settings import ConsoleSettings
from console.store import BOUNDS, Store
from console.tickets import alertmanager
from console.tickets.reporting import Tickets

REDIS_TIMEOUT_S = 2.0
DISCOVERY_PATH = "/.well-known/openid-configuration"


def application(settings: ConsoleSettings, clock: Callable[[], float] = time.time) -> FastAPI:
    """Return the console. Nothing connects before the first request."""
    # A proxy in the environment is for addresses outside; loopback and the cluster are reached directly.
    http = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=CONNECTIONS_MAX))
    redis, store = _redis(settings), _store(settings)
    tickets = alertmanager.tickets_of(settings, http, redis, clock)
    life = _life(http, redis, store, tickets)
    app = FastAPI(title="console", openapi_url=None, docs_url=None, redoc_url=None, lifespan=life)
    app.state.console = Console(
        settings=settings,
        sessions=Sessions(redis, settings.keys),
        store=store,
        provider=Provider(_registration(settings), http),
        verifier=access_verifier(settings),
        apis=Apis(settings.apis, http),
        templates=web.Templates(),
        rights=rights.table(settings.roles),
        clock=clock,
        tickets=tickets,
    )
    metrics.install(app, None)
    app.add_middleware(web.SecureHeaders)
    errors.install(app)
    # Without Redis the pages still answer, with what is the matter; without them no person would learn it. Without
    # the database there are no views and no reveals, and everything else.
    app.include_router(health.router(alive={}, ready={}))
    reports = [] if tickets is None else alertmanager.routes()
    app.router.routes.extend([*sign_in.routes(), *pages.routes(), *reports])
    app.router.routes.append(Mount("/static", StaticFiles(directory=web.HERE / "static")))
    return app


def access_verifier(settings: ConsoleSettings) -> Verifier | Issuers:
    """Return what verifies access tokens: of the listed issuers the one at which people sign in here, and no other.

    Raises ValueError where it is not listed.
    """
    own = tuple(each for each in settings.issuers if each.issuer == settings.issuer)
    if settings.issuers and not own:
        raise ValueError(
            f"BARAZA_ISSUERS does not list {settings.issuer}, at which people sign in to the console (BARAZA_ISSUER). "
            "Add it with the roles that it may give."
        )
    return general_verifier(settings.model_copy(update={"issuers": own}))


def _redis(settings: ConsoleSettings) -> Redis:
    password_file = settings.redis_password_file
    return Redis.from_url(
        settings.redis_url,
        credential_provider=None if password_file is None else RedisLogin(settings.redis_user, password_file),
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )


def _store(settings: ConsoleSettings) -> Store:
    url, password_file = settings.database_url, settings.database_password_file
    return Store(database.create(url, password_file, application=settings.service, bounds=BOUNDS))


def _life(
    http: httpx.AsyncClient, redis: Redis, store: Store, tickets: Tickets | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what runs beside the pages, and what is closed after the last one."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        retrying = None if tickets is None else asyncio.create_task(tickets.keep_retrying())
        yield
        if retrying is not None:
            retrying.cancel()
            await asyncio.wait([retrying])
        await http.aclose()
        await redis.aclose()
        store.close()

    return lifespan


def _registration(settings: ConsoleSettings) -> Registration:
    return Registration(
        issuer=settings.issuer,
        discovery_url=settings.console_discovery_url or f"{settings.issuer.rstrip('/')}{DISCOVERY_PATH}",
        client_id=settings.console_client_id,
        client_secret=settings.client_secret,
        redirect_uri=f"{settings.console_url}/callback",
        scope=settings.console_scope,
    )


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit status is 1 where the address is in use."""
    settings = ConsoleSettings()
    logs.configure(settings.service, settings.log_level)
    server = server_of(application(settings), settings)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main())
