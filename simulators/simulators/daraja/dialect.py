"""How Daraja refuses: ``requestId``, ``errorCode`` and ``errorMessage``, with codes that differ by product."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from starlette.requests import Request

from simulators.face import Refused, Reply
from simulators.mobile.face import Operation
from simulators.mobile.faults import Fault, Kind

INVALID_FIELD = "400.002.02"
FOUR_MEANINGS = "500.001.1001"
INTERNAL = "500.002.1001"
REGISTERED = "500.003.1001"
SPIKE_ARREST, QUOTA = "500.003.02", "500.003.03"
PROCESSING_TEXT = "The transaction is being processed"
LOCKED_TEXT = "Unable to lock subscriber, a transaction is already in process for the current subscriber"
TOKEN_CODES = {
    "stk_push": "404.001.03", "stk_query": "404.001.03", "reversal": "404.001.03", "b2c": "401.002.01",
    "balance": "401.002.01", "b2b": "401.002.01",
}  # fmt: skip
"""Of the others it is 400.003.01."""
FAILURES: Mapping[Kind, tuple[int, str, str]] = {
    Kind.RATE_LIMITED: (500, SPIKE_ARREST, "Error Occurred: Spike Arrest Violation"),
    Kind.QUOTA: (500, QUOTA, "Error Occurred: Quota Violation"),
    Kind.LOCKED: (500, FOUR_MEANINGS, LOCKED_TEXT),
    Kind.PROCESSING: (500, FOUR_MEANINGS, PROCESSING_TEXT),
    Kind.REFUSED: (400, INVALID_FIELD, "Bad Request - Invalid Remarks"),
    Kind.EMPTY_CODE: (500, "", "Internal Server Error"),
}


def error(status: int, code: str, message: str) -> Reply:
    """Return a refusal."""
    number = uuid4().int
    request_id = f"{number % 90_000 + 10_000}-{number // 90_000 % 10**8}-1"
    return Reply(status=status, body={"requestId": request_id, "errorCode": code, "errorMessage": message})


def invalid(field: str) -> Refused:
    """Return the refusal of a field."""
    return Refused(error(400, INVALID_FIELD, f"Bad Request - Invalid {field}"))


class DarajaDialect:
    """How Daraja answers what concerns every operation."""

    def token_of(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def token_invalid(self, operation: Operation) -> Reply:
        code = TOKEN_CODES.get(operation.name, "400.003.01")
        return error(int(code[:3]), code, "Invalid Access Token")

    def not_json(self) -> Reply:
        return error(400, INVALID_FIELD, "Bad Request - Invalid JSON")

    def failed(self, kind: Kind, fault: Fault | None) -> Reply:
        status, code, message = FAILURES.get(kind, (500, INTERNAL, "[MpesaGW] - System internal error."))
        if fault is not None:
            status, code = fault.status or status, code if fault.code is None else fault.code
        return error(status, code, message)
