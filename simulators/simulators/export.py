"""Records as a simulator exports them, page by page."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from simulators.problems import Problem
from simulators.records import Records

PAGE_SIZE_MAX = 10_000
"""Bounds the time for which one page of the export blocks the event loop: about 50 ms."""


def page(records: Records, request: Request) -> Response:
    """Return one page of records in the order of their creation; ``next`` is the ``after`` of the next page."""
    after = _whole_number(request, "after", default=0, largest=2**63 - 1)
    limit = _whole_number(request, "limit", default=1000, largest=PAGE_SIZE_MAX)
    found = records.page(request.query_params.get("kind"), after, limit)
    following = found[-1]["seq"] if found and len(found) == limit else None
    return JSONResponse({"records": found, "next": following})


def _whole_number(request: Request, name: str, *, default: int, largest: int) -> int:
    text = request.query_params.get(name, str(default))
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(largest))
    if not is_number or int(text) > largest:
        raise Problem(400, "invalid_request", f"{name} is {text!r}; it must be a whole number from 0 to {largest}.")
    return int(text)
