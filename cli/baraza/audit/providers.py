"""The providers' own records, read over HTTP: of gateways and couriers, and the books of mobile money.

They are streamed in pages. Nothing here writes to a provider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx

from baraza.terminal import Refusal

PAGE_RECORDS: Final = 5_000
HTTP_TIMEOUT_S: Final = 30.0


class Unreadable(Refusal):
    """A source of the audit cannot be read; without it there is no verdict."""


def records(url: str, kind: str) -> Iterator[dict[str, Any]]:
    """Stream a provider's own records of one kind. Raises Unreadable."""
    after: int | None = 0
    with httpx.Client(base_url=url, timeout=HTTP_TIMEOUT_S, trust_env=False) as http:
        while after is not None:
            try:
                answer = http.get("/admin/records", params={"kind": kind, "after": after, "limit": PAGE_RECORDS})
                answer.raise_for_status()
                page = answer.json()
                found, after = page["records"], page["next"]
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                raise Unreadable(f"The records at {url} cannot be read ({error}). Run ./baraza status.") from error
            yield from found


def now_s(url: str) -> int:
    """Return what time it is at a provider of mobile money. Raises Unreadable."""
    (now,) = _get(url, "/admin/clock", {}, "now")
    return int(now)


def entries(url: str) -> Iterator[dict[str, Any]]:
    """Stream the entries of a provider's own books. Raises Unreadable."""
    after: int | None = 0
    while after is not None:
        found, after = _get(url, "/books", {"after": after, "limit": PAGE_RECORDS}, "entries", "next")
        yield from found


def _get(url: str, path: str, query: Mapping[str, int], *names: str) -> list[Any]:
    try:
        answer = httpx.get(f"{url}{path}", params=dict(query), timeout=HTTP_TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
        page = answer.json()
        return [page[name] for name in names]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise Unreadable(f"The books at {url} cannot be read ({error}). Run ./baraza status.") from error
