"""Tokens: an hour long, and each ends the one before."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from simulators.daraja.dialect import DarajaDialect, error
from simulators.face import Reply
from simulators.mobile.face import respond
from simulators.mobile.faults import ANSWER, Kind, Subject, first, met, of_header
from simulators.mobile.server import Provider
from simulators.short_codes import ShortCode
from simulators.simulator import DroppedConnection

TOKEN = "token"
LIFE_S = 3_600
EXPIRES_IN = "3599"


def endpoint(provider: Provider) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers requests for tokens."""

    async def generate(request: Request) -> Response:
        short_code = _caller(provider, request)
        if short_code is None:
            return respond(error(400, "400.008.01", "Invalid Authentication passed"))
        if request.query_params.get("grant_type") != "client_credentials":
            return respond(error(400, "400.008.02", "Invalid grant type passed"))
        now, records = provider.clock.now(), provider.records
        subject = Subject(operation=TOKEN, reference=short_code.short_code)
        with records.transaction():
            found = met(records, subject, ANSWER, now=now, seed=provider.seed)
        fault = first((*of_header(TOKEN, request.headers.get("x-fault", "")), *found), *ANSWER)
        if fault is not None and fault.kind is Kind.ANSWER_LOST:
            return DroppedConnection()
        if fault is not None and fault.kind is not Kind.SLOW:
            return respond(DarajaDialect().failed(fault.kind, fault))
        token = secrets.token_urlsafe(21)
        with records.transaction():
            records.add_token(token, short_code.short_code, "", now + LIFE_S, is_only=True)
        return respond(Reply(status=200, body={"access_token": token, "expires_in": EXPIRES_IN}))

    return generate


def _caller(provider: Provider, request: Request) -> ShortCode | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    known = provider.short_codes.short_codes if scheme.lower() == "basic" else ()
    return next((each for each in known if (each.key, each.secret) == (key, secret)), None)
