"""Errors as RFC 9457 problem details, for every process of this package, without stack traces."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, StringConstraints, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

if TYPE_CHECKING:
    from starlette.types import ExceptionHandler

BODY_BYTES_MAX = 1_048_576
"""One mebibyte: many times the largest shipment that the courier accepts."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]

BodyType = TypeVar("BodyType", bound=BaseModel)


class Problem(Exception):
    """An error response. ``code`` is for programs, ``detail`` one sentence for people."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    def response(self) -> Response:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return problem_response(problem_body(self.status, self.code, str(self)), self.status, headers)


def problem_body(status: int, code: str, detail: str) -> dict[str, object]:
    """Return the members of a problem document."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }


def problem_response(body: Mapping[str, object], status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def parse(model: type[BodyType], body: bytes | str) -> BodyType:
    """Validate a JSON document, or raise a Problem with its errors."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> Problem:
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    )
    return Problem(400, "invalid_request", f"The request is not valid: {faults}.")


async def read_body(request: Request) -> bytes:
    """Return the request's body, or raise a Problem when it is too large for any operation."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Problem(413, "body_too_large", f"The body is larger than {BODY_BYTES_MAX} bytes.")
    return bytes(body)


async def _answer_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    detail = f"{request.method} {request.url.path}: {error.detail}."
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return problem_response(problem_body(error.status_code, code, detail), error.status_code, headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of all routes with this path; the exception names only those of the first."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for methods in found for method in methods})


async def _answer_defect(_request: Request, _error: Exception) -> Response:
    return Problem(500, "defect", "This process failed; see its log.").response()


EXCEPTION_HANDLERS: dict[type[Exception], ExceptionHandler] = {
    Problem: _answer_problem,
    HTTPException: _answer_http,
    Exception: _answer_defect,
}
