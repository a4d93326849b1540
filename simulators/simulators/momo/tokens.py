"""Tokens, one kind for each product: an hour long, and the ones before stay valid."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from simulators.face import Reply
from simulators.mobile.face import respond
from simulators.mobile.faults import ANSWER, Kind, Subject, first, met, of_header
from simulators.mobile.server import Provider
from simulators.momo.dialect import MomoDialect, error
from simulators.short_codes import ShortCode
from simulators.simulator import DroppedConnection

TOKEN = "token"
LIFE_S = 3_600


def endpoint(provider: Provider, product: str) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers requests for tokens of a product."""

    async def generate(request: Request) -> Response:
        short_code = _caller(provider, request)
        if short_code is None:
            return respond(error(401, "LOGIN_FAILED", "The credentials are not those of an API user."))
        records, now = provider.records, provider.clock.now()
        subject = Subject(operation=TOKEN, reference=short_code.short_code, others=(product,))
        with records.transaction():
            found = met(records, subject, ANSWER, now=now, seed=provider.seed)
        fault = first((*of_header(TOKEN, request.headers.get("x-fault", "")), *found), *ANSWER)
        if fault is not None and fault.kind is Kind.ANSWER_LOST:
            return DroppedConnection()
        if fault is not None and fault.kind is not Kind.SLOW:
            return respond(MomoDialect().failed(fault.kind, fault))
        token = secrets.token_urlsafe(40)
        with records.transaction():
            records.add_token(token, short_code.short_code, product, now + LIFE_S, is_only=False)
        return respond(
            Reply(status=200, body={"access_token": token, "token_type": "access_token", "expires_in": LIFE_S})
        )

    return generate


def _caller(provider: Provider, request: Request) -> ShortCode | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    known = provider.short_codes.short_codes if scheme.lower() == "basic" else ()
    return next((each for each in known if (each.key, each.secret) == (key, secret)), None)
