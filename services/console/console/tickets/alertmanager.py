"""Where Alertmanager reports alarms: one route, for a caller with the secret that both share.

It answers 200 when the ticket fits the alarm, and else 503, so that Alertmanager reports it again.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

import httpx
import structlog
from redis.asyncio import Redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from console.tickets.alarms import Alarm, BadAlarm, alarm_of
from console.tickets.itsm import Itsm, Unavailable
from console.tickets.reporting import Tickets
from console.tickets.servicenow import ServiceNow
from console.tickets.settings import SERVICENOW, TicketSettings
from console.tickets.signed_webhook import SignedWebhook
from console.tickets.store import TicketStore

PATH: Final = "/alarms"
BODY_BYTES_MAX: Final = 4_194_304
"""Some thousand alerts in one group."""
SECRETS_MAX: Final = 2
"""The newest, and the one before it while it is replaced."""
RETRY_AFTER_S: Final = "10"

log = structlog.get_logger(__name__)


def routes() -> list[Route]:
    """Return the routes."""
    return [Route(PATH, receive, methods=["POST"])]


def tickets_of(
    settings: TicketSettings, http: httpx.AsyncClient, redis: Redis, clock: Callable[[], float]
) -> Tickets | None:
    """Return the tickets as they are configured; None where they are not. Raises ValueError with what is wrong."""
    if not settings.tickets:
        return None
    url, secret_file, _ = settings.check_tickets()
    itsm: Itsm
    if settings.tickets == SERVICENOW:
        itsm = ServiceNow(
            http,
            url=url,
            login_file=secret_file,
            fields=settings.incident_fields,
            close_code=settings.tickets_close_code,
        )
    else:
        itsm = SignedWebhook(http, url=url, secret_file=secret_file)
    return Tickets(itsm, TicketStore(redis), clock)


async def receive(request: Request) -> Response:
    """Take a report of Alertmanager's."""
    console = request.app.state.console
    try:
        _check_secret(request, console.settings)
        alarm = await _alarm_in(request, console.settings.console_url, console.settings.runbooks_url)
        applied = await console.tickets.report(alarm)
    except HTTPException as refusal:
        return _problem(refusal.status_code, str(refusal.detail))
    except BadAlarm as error:
        log.error("A report of Alertmanager's is refused.", why=str(error))
        return _problem(422, str(error))
    except Unavailable as error:
        return _problem(503, str(error))
    ticket = applied.ticket
    return JSONResponse({"outcome": applied.outcome.value, "ticket": None if ticket is None else ticket.number})


def _check_secret(request: Request, settings: TicketSettings) -> None:
    """Refuse a caller without one of the secrets. Each is compared, in constant time."""
    _, _, file = settings.check_tickets()
    try:
        secrets = file.read_text().split()
    except OSError as error:
        log.error("BARAZA_TICKETS_ALERTMANAGER_FILE cannot be read.", error=error.strerror)
        raise HTTPException(503, "The console cannot read the secret of BARAZA_TICKETS_ALERTMANAGER_FILE.") from error
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    matches = [hmac.compare_digest(given.strip().encode(), each.encode()) for each in secrets[:SECRETS_MAX]]
    if scheme.lower() != "bearer" or not any(matches):
        raise HTTPException(401, "Present the secret of BARAZA_TICKETS_ALERTMANAGER_FILE as a bearer token.")


async def _alarm_in(request: Request, console_url: str, runbooks_url: str) -> Alarm:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise HTTPException(413, "The report is too long; set max_alerts in Alertmanager's webhook_configs.")
    return alarm_of(bytes(body), console_url=console_url, runbooks_url=runbooks_url)


def _problem(status: int, detail: str) -> Response:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": RETRY_AFTER_S}}.get(status)
    return JSONResponse({"detail": detail}, status, headers=headers)
