"""Members' texts over HTTP, for staff. Of a phone they see the country and the last digits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from sqlalchemy import Engine

from chassis.http.auth import Principal, require
from chassis.http.json_body import JsonRoute
from notifier.answers import Cursor, IdFilter, Limit, cursor_of, position_of, responses
from notifier.model.member_texts import TextState, masked
from notifier.store import texts

Staff = Annotated[Principal, Depends(require("teller", "support", "operator"))]
MemberFilter = Annotated[str | None, Query(pattern=r"^[A-Z0-9]{3,16}$")]


class TextAnswer(BaseModel):
    """A text to a member. ``next_attempt_at`` is null once it is SENT or GIVEN_UP."""

    text_id: str
    saga_id: str
    member_id: str
    kind: str
    phone: str
    language: str
    body: str
    state: TextState
    attempt_count: int
    next_attempt_at: datetime | None
    last_error: str | None
    created_at: datetime
    ended_at: datetime | None


class TextPage(BaseModel):
    """A page of texts, the newest first; request the next one with ``cursor=next_cursor``."""

    texts: list[TextAnswer]
    next_cursor: str | None


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["texts"])

    @router.get("/texts", responses=responses(422))
    def list_texts(
        _caller: Staff,
        member_id: MemberFilter = None,
        state: TextState | None = None,
        saga_id: IdFilter = None,
        cursor: Cursor = None,
        limit: Limit = 20,
    ) -> TextPage:
        """Return the texts of members, the newest first."""
        with engine.connect() as tx:
            found = texts.list_texts(
                tx, before=position_of(cursor), count=limit + 1, member_id=member_id,
                state=None if state is None else state.value, saga_id=saga_id,
            )  # fmt: skip
        shown = [TextAnswer(**{**row._mapping, "phone": masked(row.phone)}) for row in found[:limit]]
        return TextPage(texts=shown, next_cursor=cursor_of(found, limit))

    return router
