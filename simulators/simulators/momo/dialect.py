"""How MoMo refuses: a code in words and a message."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request

from simulators.face import Refused, Reply
from simulators.mobile.face import Operation
from simulators.mobile.faults import Fault, Kind

INTERNAL = "INTERNAL_PROCESSING_ERROR"
FAILURES: Mapping[Kind, tuple[int, str, str]] = {
    Kind.QUOTA: (403, "QUOTA_EXCEEDED", "Out of call volume quota."),
    Kind.LOCKED: (503, "SERVICE_UNAVAILABLE", "Service temporarily unavailable, try again later."),
    Kind.REFUSED: (400, "REQUEST_REJECTED", "Request was rejected."),
    Kind.EMPTY_CODE: (500, "", "An internal error occurred while processing."),
}


def error(status: int, code: str, message: str) -> Reply:
    """Return a refusal."""
    return Reply(status=status, body={"code": code, "message": message})


def rejected(message: str) -> Refused:
    """Return the refusal of a request that does not follow the specification."""
    return Refused(error(400, "REQUEST_REJECTED", message))


class MomoDialect:
    """How MoMo answers what concerns every operation."""

    def token_of(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def token_invalid(self, operation: Operation) -> Reply:
        message = f"The token does not grant access to {operation.product}."
        return Reply(status=401, body={"error": "invalid_token", "error_description": message})

    def not_json(self) -> Reply:
        return error(400, "REQUEST_REJECTED", "The body is no JSON object.")

    def failed(self, kind: Kind, fault: Fault | None) -> Reply:
        if kind is Kind.RATE_LIMITED:
            body = {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 1 seconds."}
            status = 429 if fault is None else fault.status or 429
            return Reply(status=status, body={**body}, headers={"Retry-After": "1"})
        status, code, message = FAILURES.get(kind, (500, INTERNAL, "An internal error occurred while processing."))
        if fault is not None:
            status, code = fault.status or status, code if fault.code is None else fault.code
        return error(status, code, message)
