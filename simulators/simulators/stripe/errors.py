"""Stripe's way to say things: errors, keys, parameters of a form."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from simulators.face import Refused, Reply
from simulators.faults import Fault
from simulators.records import JsonObject

PART = re.compile(r"\[([^\[\]]*)\]")
PARAMETERS_MAX = 200


def error(status: int, kind: str, message: str, *, code: str | None = None, **more: object) -> Reply:
    """Return an error. ``more`` are further members, such as ``param``."""
    said: JsonObject = {"type": kind, "message": message}
    if code is not None:
        said["code"] = code
        said["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
    return Reply(status=status, body={"error": {**said, **more}})


def invalid(message: str, *, param: str | None = None, code: str | None = None, **more: object) -> Reply:
    """Return an ``invalid_request_error``."""
    named = {} if param is None else {"param": param}
    return error(400, "invalid_request_error", message, code=code, **named, **more)


def missing(what: str, found: str) -> Reply:
    """Return the answer for an object that is not there."""
    message = f"No such {what}: '{found}'"
    return error(404, "invalid_request_error", message, code="resource_missing", param="intent")


class StripeDialect:
    """How Stripe says what all gateways say. Keys are kept for 24 hours, whatever their answer was."""

    key_length_max = 255
    key_kept_s = 24 * 3600.0
    stores_failures = True

    def api_key(self, request: Request) -> str:
        """Return the secret key: a bearer token, or the user of basic authentication."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                return base64.b64decode(value).decode().partition(":")[0]
            except (binascii.Error, UnicodeDecodeError):
                return ""
        return value.strip()

    def parse(self, request: Request, body: bytes) -> JsonObject:
        """Return the parameters of a form or of a query, nested as their names are."""
        text = request.url.query if request.method == "GET" else body.decode("utf-8", "replace")
        try:
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=PARAMETERS_MAX)
        except ValueError as wrong:
            raise Refused(invalid(f"Invalid request body: {wrong}.")) from wrong
        found: dict[str, Any] = {}
        for name, value in pairs:
            _put(found, [name.partition("[")[0], *PART.findall(name)], value)
        return found

    def unauthorized(self) -> Reply:
        return error(401, "invalid_request_error", "Invalid API Key provided.")

    def rate_limited(self, retry_after_s: int) -> Reply:
        said = error(429, "invalid_request_error", "Too many requests hit the API too quickly.", code="rate_limit")
        return Reply(status=said.status, body=said.body, headers={"Retry-After": str(retry_after_s)})

    def key_too_long(self) -> Reply:
        return invalid(f"Idempotency keys have at most {self.key_length_max} characters.")

    def key_reused(self, key: str) -> Reply:
        message = "Keys for idempotent requests can only be used with the same parameters they were first used with."
        return error(400, "idempotency_error", f"{message} Try using a key other than '{key}'.")

    def under_way(self, key: str) -> Reply:
        message = f"There is currently another in-progress request using the idempotency key '{key}'."
        return error(409, "idempotency_error", message, code="idempotency_key_in_use")

    def failed(self, fault: Fault) -> Reply:
        return error(fault.status, "api_error", "An error occurred with our API.", code=fault.code)


def _put(into: dict[str, Any], names: list[str], value: str) -> None:
    """Put a value where its name says: ``a[b]=c`` into an object, ``a[]=c`` into a list."""
    name, *rest = names
    if not rest:
        into[name] = value
    elif rest == [""]:
        listed = into.setdefault(name, [])
        if not isinstance(listed, list):
            raise Refused(invalid(f"Invalid parameter: {name} is given twice, in two forms.", param=name))
        listed.append(value)
    else:
        inner = into.setdefault(name, {})
        if isinstance(inner, list):
            raise Refused(invalid(f"Invalid parameter: {name} is given twice, in two forms.", param=name))
        if not isinstance(inner, dict):
            raise Refused(invalid(f"Invalid object: {name}", param=name))
        _put(inner, [part or str(len(inner)) for part in rest], value)
