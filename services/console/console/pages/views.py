"""Saved views: the filters of the list of sagas under a name, one's own or shared with all who may look.

What is stored is filters, never an address: whatever a row holds, a view leads to the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import structlog
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.values.text import human_text
from console.access import Visit, act
from console.apis import TRACKER, ApiProblem
from console.pages.filters import LIST, address, as_api, parsed, query_of
from console.rights import LOOK, OPERATE
from console.store import StoreUnavailable
from console.tables import NAME_LENGTH_MAX, QUERY_LENGTH_MAX, ViewRefused

PERSONAL: Final = ("subject", "reference")
"""Filters that name a person or their business; a view with one of them is not shared."""
DIGITS_MAX: Final = 18
"""Of a number that PostgreSQL's bigint can hold."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A saved view as the list shows it. ``sharer`` is empty for one's own; ``is_current``: its list is open."""

    view_id: int
    name: str
    url: str
    sharer: str
    is_shared: bool
    is_current: bool
    may_delete: bool


def routes() -> list[Route]:
    """Return the routes."""
    return [Route("/views", save, methods=["POST"]), Route("/views/{view_id}/delete", delete, methods=["POST"])]


async def shown_views(visit: Visit, filters: Mapping[str, Sequence[str]]) -> list[View] | None:
    """Return the views that a person may use; None while they cannot be read."""
    try:
        rows = await visit.console.store.views(visit.person)
    except StoreUnavailable:
        return None
    current = query_of(filters)
    found = []
    for row in rows:
        kept = parsed(row.query)
        found.append(
            View(
                view_id=row.view_id,
                name=row.name,
                url=address(LIST, kept),
                sharer="" if row.is_own else row.person,
                is_shared=row.is_shared,
                is_current=query_of(kept) == current,
                may_delete=row.is_own or visit.rights.has(OPERATE),
            )
        )
    return found


@act(LOOK)
async def save(visit: Visit) -> Response:
    """Save the list's filters. The tracker judges them first, so that no view is kept that the list would refuse."""
    name, filters, is_shared = _name_of(visit), _filters_of(visit), visit.form.get("is_shared") == "on"
    if is_shared and any(filter_ in filters for filter_ in PERSONAL):
        raise HTTPException(
            422, "These filters name whom a saga is about, so the view is for you alone. Do not share it."
        )
    try:
        await visit.apis.get(TRACKER, f"/v1/saga-count?{urlencode(as_api(filters), doseq=True)}")
    except ApiProblem as problem:
        if problem.status in (400, 422):
            raise HTTPException(422, f"The list refuses these filters: {problem.detail}") from problem
        raise
    try:
        await visit.console.store.save_view(visit.person, name=name, query=query_of(filters), is_shared=is_shared)
    except ViewRefused as refused:
        raise HTTPException(409, str(refused)) from refused
    return RedirectResponse(address(LIST, filters), 303)


@act(LOOK)
async def delete(visit: Visit) -> Response:
    """Delete an own view; an operator deletes shared ones of others as well."""
    text = str(visit.request.path_params["view_id"])
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise HTTPException(404, "This is no view's number.")
    may_delete_shared = visit.rights.has(OPERATE)
    name = await visit.console.store.delete_view(visit.person, int(text), may_delete_shared=may_delete_shared)
    if name is None:
        raise HTTPException(404, "There is no view of yours with this number. Shared ones are deleted by an operator.")
    log.info("A view was deleted.", actor=f"{visit.session.issuer}|{visit.session.subject}", view=name)
    return RedirectResponse(LIST, 303)


def _name_of(visit: Visit) -> str:
    """Return the name in a form, or answer 422."""
    try:
        return human_text(visit.form.get("name", ""), length_max=NAME_LENGTH_MAX)
    except ValueError as error:
        raise HTTPException(422, f"The view's name: {error}.") from error


def _filters_of(visit: Visit) -> dict[str, list[str]]:
    """Return the filters in a form, or answer 422. What is no filter of the list is left out."""
    try:
        found = parsed(visit.form.get("query", ""))
    except ValueError as error:
        raise HTTPException(422, "There are too many filters.") from error
    if not found:
        raise HTTPException(422, "No filter of the list is set, so there is nothing to save.")
    length = len(query_of(found))
    if length > QUERY_LENGTH_MAX:
        raise HTTPException(422, f"The filters have {length} characters; at most {QUERY_LENGTH_MAX} are kept.")
    return found
