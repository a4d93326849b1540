"""The filters of the list of sagas, as its address has them. What is none of them is not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import QueryParams

LIST: Final = "/sagas"
FILTERS = (
    "state", "type", "step", "cause", "group", "subject", "reference", "started_after", "started_before", "awaiting",
    "contradicted", "older_than_s",
)  # fmt: skip
REPEATED = ("state", "type", "step", "cause")
"""Of these several values may be given."""
TIMES = ("started_after", "started_before")
FIELDS_MAX: Final = 60
"""Of a saved query: every state, cause and type at once are fewer."""

Filters = Mapping[str, Sequence[str]]


def filters_of(given: QueryParams) -> dict[str, list[str]]:
    """Return the filters that are set, by name."""
    found = {name: [text for each in given.getlist(name) if (text := each.strip())] for name in FILTERS}
    return {name: texts if name in REPEATED else texts[-1:] for name, texts in found.items() if texts}


def parsed(query: str) -> dict[str, list[str]]:
    """Return the filters in the query of an address, without what is none. Raises ValueError for no query."""
    return filters_of(QueryParams(parse_qsl(query, max_num_fields=FIELDS_MAX)))


def query_of(filters: Filters) -> str:
    """Return the query of an address with these filters, in one order whatever order they were given in."""
    return urlencode({name: filters[name] for name in FILTERS if name in filters}, doseq=True)


def address(path: str, filters: Filters) -> str:
    """Return the address of a list with these filters."""
    return f"{path}?{urlencode(filters, doseq=True)}" if filters else path


def as_api(filters: Filters) -> dict[str, Any]:
    """Return filters as the API takes them."""
    return {name: [_as_api(name, text) for text in texts] for name, texts in filters.items()}


def _as_api(name: str, value: str) -> str:
    """Return a filter as the API takes it: a time of a form is in UTC, and a mark is true."""
    if name in TIMES and len(value) == len("2026-11-21T10:00"):
        return f"{value}:00Z"
    return "true" if value == "on" else value
