"""Adyen's way to say things: errors, keys, JSON."""

from __future__ import annotations

import json
from uuid import uuid4

from starlette.requests import Request

from simulators.face import Refused, Reply
from simulators.faults import Fault
from simulators.records import JsonObject

IN_USE = "704"


def new_psp() -> str:
    """Return a new pspReference: 16 characters."""
    return uuid4().hex[:16].upper()


def error(status: int, code: str, message: str, kind: str = "validation") -> Reply:
    """Return an error as Adyen writes it."""
    body: JsonObject = {
        "status": status, "errorCode": code, "message": message, "errorType": kind, "pspReference": new_psp(),
    }  # fmt: skip
    return Reply(status=status, body=body)


class AdyenDialect:
    """How Adyen says what all gateways say. Keys are kept for a week; no failure of its own is kept."""

    key_length_max = 64
    key_kept_s = 7 * 86_400.0
    stores_failures = False

    def api_key(self, request: Request) -> str:
        """Return the key of the API."""
        return request.headers.get("x-api-key", "")

    def parse(self, _request: Request, body: bytes) -> JsonObject:
        """Return the parameters of a JSON body."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as wrong:
            raise Refused(error(400, "702", "The request is no JSON.")) from wrong
        if not isinstance(found, dict):
            raise Refused(error(400, "702", "The request is no JSON object."))
        return found

    def unauthorized(self) -> Reply:
        return error(401, "000", "HTTP Status Response - Unauthorized", "security")

    def rate_limited(self, retry_after_s: int) -> Reply:
        said = error(429, "029", "Too many requests.", "security")
        return Reply(status=429, body=said.body, headers={"Retry-After": str(retry_after_s)})

    def key_too_long(self) -> Reply:
        return error(422, "703", f"The Idempotency-Key has more than {self.key_length_max} characters.")

    def key_reused(self, key: str) -> Reply:
        return error(422, "702", f"The Idempotency-Key {key} was used for another request.")

    def under_way(self, key: str) -> Reply:
        said = error(409, IN_USE, f"The request with Idempotency-Key {key} is under way.", "configuration")
        return Reply(status=409, body=said.body, headers={"transient-error": "true"})

    def failed(self, fault: Fault) -> Reply:
        said = error(fault.status, fault.code or "905", "Internal error", "internal")
        headers = {"transient-error": "true"} if fault.code in (IN_USE, "703") else {}
        return Reply(status=fault.status, body=said.body, headers=headers)
