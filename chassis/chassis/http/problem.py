"""RFC 9457 problem+json for every HTTP API: one form of error, which says what happened and what to do.

It must never show internals, and never repeat what a caller sent: a body may contain personal data.
"""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from psycopg.errors import LockNotAvailable, QueryCanceled
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.http.bodies import BodyLimit
from chassis.http.forms import words_of
from chassis.http.json_body import SHOWN_MAX, AmbiguousHeader, FlawedBody, InvalidBody, PlainBody, details_of

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
ERRORS_MAX = SHOWN_MAX
"""Errors that one response names; a request with more of them gets the first ones."""
BODY_BYTES_MAX = 1_048_576
"""A cart of 200 lines has about 10 kB; an API for bulk loads sets its own limit."""
FRAMES_MAX = 12
"""Innermost frames of an unexpected error that are logged."""
RETRY_AFTER_S = 2
"""A restart of PostgreSQL takes about as long; an earlier request would fail again."""

Value = TypeVar("Value")
Json: TypeAlias = str | int | float | bool | Sequence["Json"] | Mapping[str, "Json"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One error in a request: ``pointer`` is a JSON pointer into the body (``#/lines/3/quantity``)."""

    pointer: str
    detail: str

    def to_json(self) -> dict[str, Json]:
        """Return it as a member of a problem's ``errors``."""
        return {"pointer": self.pointer, "detail": self.detail}


class Problem(Exception):
    """An error response to a request; raise it anywhere in an endpoint.

    ``type`` is a URI reference that clients may compare, ``title`` is the same for every problem of the type,
    ``detail`` says what happened this time and what to do. ``extra`` are further members, for example ``errors``.
    """

    def __init__(
        self,
        *,
        status: int,
        title: str = "",
        detail: str,
        type: str = "about:blank",  # noqa: A002 - the RFC's own word
        extra: Mapping[str, Json] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status: Final = status
        self.title: Final = title or HTTPStatus(status).phrase
        self.detail: Final = detail
        self.type: Final = type
        self.extra: Final[Mapping[str, Json]] = extra or {}
        self.headers: Final[Mapping[str, str]] = headers or {}

    def to_json(self) -> dict[str, Json]:
        """Return the members of the response's body."""
        body: dict[str, Json] = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return body | dict(self.extra)

    def to_response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse(self.to_json(), self.status, headers=dict(self.headers), media_type=MEDIA_TYPE)


def invalid(errors: Sequence[FieldError], *, type: str = "urn:baraza:problem:invalid-request") -> Problem:  # noqa: A002
    """Return the 422 that names each of these fields; the detail repeats the first."""
    named: list[Json] = [error.to_json() for error in errors[:ERRORS_MAX]]
    first = errors[0]
    more = f" ({len(errors) - 1} more in errors.)" if len(errors) > 1 else ""
    return Problem(
        status=422,
        title="The request is not valid",
        detail=f"{first.pointer}: {first.detail}{more}",
        type=type,
        extra={"errors": named},
    )


def invalid_body(details: Sequence[Mapping[str, Any]], count: int) -> Problem:
    """Return the 422 for pydantic's errors of a body; without details there are more than can be named."""
    if not details:
        too_many = f"{count} values are not valid, too many to name them; send fewer items in one request."
        return invalid([FieldError(pointer="#", detail=too_many)])
    return invalid(field_errors(details))


def refused_item(error: ValidationError) -> Problem:
    """Return the 422 for one item of a body that is validated by itself."""
    return invalid_body(details_of(error), error.error_count())


def keyed(items: Iterable[tuple[str, Value]], field: str) -> dict[str, Value]:
    """Return the items of a body by their keys, the values of ``field``. Raises the 422 that names a repeated key."""
    found: dict[str, Value] = {}
    for index, (key, value) in enumerate(items):
        if key in found:
            raise invalid([FieldError(pointer=f"#/{index}/{field}", detail=f"{key} is here twice; send it once.")])
        found[key] = value
    return found


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def problem_responses(descriptions: Mapping[int | str, str]) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI declarations of problems, by status: ``responses=problem_responses({404: "No such order."})``."""
    return {
        status: {"description": description, "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        for status, description in descriptions.items()
    }


PROBLEM_RESPONSES = problem_responses(
    {
        400: "The body cannot be read, or a header has two values.",
        401: "There is no valid bearer token.",
        403: "The token does not have the role, or identifies another caller.",
        404: "It does not exist, or is not the caller's.",
        405: "The path does not have this method.",
        409: "The request conflicts with the state of what it names.",
        412: "It has changed since it was read; read it again.",
        413: "The body is too long.",
        415: "The body has another media type than these.",
        422: "The request is not valid; each field in question is named.",
        428: "If-Match is missing: the ETag of what was read.",
        429: "Too many requests; try again after Retry-After seconds.",
        500: "The service failed on this request.",
        503: "A dependency is unavailable; try again after Retry-After seconds.",
    }
)
"""Declarations to choose from by status. With 422 among them FastAPI does not declare its own."""


def install(
    app: FastAPI, *, body_bytes_max: int = BODY_BYTES_MAX, body_bytes_max_of: Mapping[str, int] | None = None
) -> None:
    """Make every error of ``app`` a problem.

    That is: refusals, invalid requests, unknown paths, long bodies, an unavailable database, and our own bugs.
    ``body_bytes_max_of`` gives single paths, for example of bulk loads, a limit of their own.
    """
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for error_type in (OperationalError, InterfaceError, NoConnection):
        app.add_exception_handler(error_type, _on_database_unavailable)
    app.add_middleware(WholePath)
    app.add_middleware(PlainBody)
    app.add_middleware(BodyLimit, body_bytes_max=body_bytes_max, body_bytes_max_of=body_bytes_max_of or {})
    app.add_middleware(LastResort)


def pointer(parts: Sequence[str | int]) -> str:
    """Return the JSON pointer to a value in a body, as a URI fragment."""
    return "#" + "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def field_errors(errors: Sequence[Mapping[str, Any]], *, at: Sequence[str | int] = ()) -> list[FieldError]:
    """Return pydantic's errors of a body as field errors. ``at`` is the path of the body in the request."""
    return [
        FieldError(pointer=pointer([*at, *error["loc"], *_first_too_many(error)]), detail=_sentence(error))
        for error in errors[:ERRORS_MAX]
    ]


def _first_too_many(error: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the index of the first item beyond the limit of a list that is too long."""
    return (error["ctx"]["max_length"],) if error["type"] == "too_long" else ()


SENTENCES: Final[Mapping[str, str]] = {
    "unknown_parameter": "Not a parameter of this request; remove it.",
    "repeated_parameter": "Given twice; send one.",
    "missing": "Missing; it is required.",
    "extra_forbidden": "Not a field of this request; remove it.",
    "unexpected_keyword_argument": "Not a field of this request; remove it.",
    "too_short": "Too few: there must be at least {min_length}.",
    "too_long": "One too many: there may be {max_length}.",
    "string_too_short": "Too short: at least {min_length} characters.",
    "string_too_long": "Too long: at most {max_length} characters.",
    "string_type": "Not a text; send a JSON string.",
    "string_unicode": "Not a text that UTF-8 can hold; send whole characters.",
    "int_type": "Not a whole number; send a JSON integer.",
    "int_parsing": "Not a whole number.",
    "int_parsing_size": "Too large a number.",
    "int_from_float": "Not a whole number.",
    "greater_than_equal": "Too small: at least {ge}.",
    "less_than_equal": "Too large: at most {le}.",
    "list_type": "Not a list; send a JSON array.",
    "tuple_type": "Not a list; send a JSON array.",
    "dict_type": "Not an object; send a JSON object.",
    "model_type": "Not an object; send a JSON object.",
    "model_attributes_type": "Not an object; send a JSON object.",
    "dataclass_type": "Not an object; send a JSON object.",
    "enum": "Not one of {expected}.",
    "literal_error": "Not one of {expected}.",
    "timezone_aware": "A time without its zone; add it, for example Z.",
}
"""The sentence for an HTTP client, which knows nothing of pydantic, by pydantic's type of error."""
UNKNOWN: Final = "Not valid; the API's description says what may stand here."


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return f"{error['ctx']['error']}."
    if error["type"] == "string_pattern_mismatch":
        return words_of(error["ctx"]["pattern"])
    return SENTENCES.get(error["type"], UNKNOWN).format_map(error.get("ctx") or {})


def _of_parameter(error: Mapping[str, Any]) -> FieldError:
    location, name = str(error["loc"][0]), str(error["loc"][-1])
    return FieldError(pointer=f"{location}:{name}", detail=_sentence(error))


async def _on_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.to_response()


def flawed_json(detail: str) -> Problem:
    """Return the 400 for a body that has the syntax of JSON and no one meaning."""
    return Problem(
        status=400, title="The body has no one meaning", detail=detail, type="urn:baraza:problem:flawed-json"
    )


def broken_json(at: int | None = None) -> Problem:
    """Return the 400 for a body that is no JSON; ``at`` is the character at which parsing failed, if it is known."""
    position = "" if at is None else f" at character {at}"
    return Problem(
        status=400,
        title="The body is not JSON",
        detail=f"The body cannot be read as JSON{position}; send valid JSON in UTF-8.",
        type="urn:baraza:problem:broken-json",
    )


async def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # FastAPI did not parse it, because of its media type
        return Problem(status=415, detail="Send the body as application/json.").to_response()
    found = error.errors()
    broken = next((each for each in found if each["type"] == "json_invalid"), None)
    if broken is not None:
        return broken_json(broken["loc"][-1]).to_response()
    return invalid(
        [
            *(_of_parameter(each) for each in found if each["loc"][0] != "body"),
            *field_errors([{**each, "loc": each["loc"][1:]} for each in found if each["loc"][0] == "body"]),
        ]
    ).to_response()


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(_methods(request))
        detail = f"{request.method} is not a method of this path; use {allowed}."
        return Problem(status=405, detail=detail, headers={"Allow": allowed}).to_response()
    if isinstance(error, FlawedBody):
        return flawed_json(error.detail).to_response()
    if isinstance(error, AmbiguousHeader):
        return Problem(status=400, detail=error.detail, type="urn:baraza:problem:ambiguous-header").to_response()
    if isinstance(error, InvalidBody):
        return invalid_body(error.details, error.count).to_response()
    if error.status_code == 400:  # FastAPI has only this one: nested too deeply, or a number of too many digits
        return broken_json().to_response()
    return Problem(status=error.status_code, detail=error.detail, headers=error.headers).to_response()


async def _on_database_unavailable(_request: Request, error: Exception) -> JSONResponse:
    """Return the 503. It is not logged: readiness and the metrics show the outage."""
    if isinstance(getattr(error, "orig", None), QueryCanceled | LockNotAvailable):
        return Problem(
            status=503,
            detail="The database took longer than a request may take, and nothing was changed; select less, or repeat "
            "it when the database has less to do.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ).to_response()
    return Problem(
        status=503,
        detail="The database does not answer, so the request may or may not have had its effect; repeat it shortly.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
    ).to_response()


def _methods(request: Request) -> list[str]:
    """Return the methods of the path. The exception names only those of the first route with this path.

    Where a path with fewer parameters has the same form, as ``/stock/movements`` beside ``/stock/{sku}``, it is meant.
    """
    scope = {"type": "http", "method": request.method, "path": request.scope["path"], "root_path": "", "headers": []}
    found: dict[int, set[str]] = defaultdict(set)
    for route in iter_route_contexts(request.app.routes):
        match, child_scope = route.matches(scope)
        if match is not Match.NONE:
            found[len(child_scope["path_params"])] |= route.methods or set()
    return sorted(found[min(found)])


class LastResort:
    """Responds 500 without internals where an endpoint failed unexpectedly, and logs the type and the frames.

    The error's own text is not logged, since drivers put the values of a row into it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
            log.error(
                "A request failed unexpectedly.",
                method=scope["method"],
                error=type(error).__qualname__,
                frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
            )
            if started:
                raise
            answer = Problem(
                status=500,
                detail="The service failed on this request; its log says where. Send the same request again later.",
            )
            await answer.to_response()(scope, receive, send)


class WholePath:
    """Responds 404 to a path that ends with a line feed: Starlette matches paths with ``$``, which ignores one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("\n"):
            await Problem(status=404, detail=HTTPStatus.NOT_FOUND.phrase).to_response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)
