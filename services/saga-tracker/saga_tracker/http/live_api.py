"""Live timelines by server-sent events: what is known of a saga, then what is new of it, until it has ended."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import TypeAdapter
from sqlalchemy import Engine

from chassis.http.json_body import JsonRoute
from chassis.http.problem import Problem
from saga_tracker.http.api import SEQ_MAX, StoredSaga, engine_of, freshness_of, reading, responses, state_of
from saga_tracker.http.live import STREAMS_MAX, Streams, Viewer
from saga_tracker.store import queries, watching
from saga_tracker.store.queries import TERMINAL, SagaView
from saga_tracker.store.watching import News

STREAM_FOR_MAX_S = 900.0
"""A stream ends after this time. Its reader reconnects with Last-Event-ID and misses nothing."""

DATA: TypeAdapter[object] = TypeAdapter(object)

router = APIRouter(route_class=JsonRoute, prefix="/v1")


async def stream_slot(request: Request, _saga: StoredSaga) -> AsyncIterator[Streams]:
    """Hold a slot for a live timeline while it is open, or answer 503 where all are in use."""
    streams: Streams = request.app.state.streams
    if streams.open_count >= STREAMS_MAX:
        raise Problem(
            status=503,
            detail=f"All {STREAMS_MAX} live timelines are in use; read this one without streaming, or try again later.",
            headers={"Retry-After": "10"},
        )
    streams.open_count += 1
    try:
        yield streams
    finally:
        streams.open_count -= 1


@router.get("/sagas/{saga_id}/timeline/stream", response_class=EventSourceResponse, responses=responses(404))
async def stream_timeline(
    request: Request,
    saga: StoredSaga,
    streams: Annotated[Streams, Depends(stream_slot)],
    last_event_id: Annotated[int, Header(ge=0, le=SEQ_MAX)] = 0,
    after: Annotated[int, Query(ge=0, le=SEQ_MAX)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Stream a timeline: the existing entries, then each new one, until the saga ends.

    Events are ``entry`` (its id is the entry's ``seq``; send it as Last-Event-ID to continue after it), ``saga`` with
    its row and the outcome of each step, at first and whenever it has changed, ``freshness`` every few seconds, and
    ``end`` with the state when the saga has ended. Of Last-Event-ID and ``after`` the greater one counts, since a
    browser that reconnects keeps the address.
    """
    engine, seen = engine_of(request), max(last_event_id, after)
    end_at_s = time.monotonic() + STREAM_FOR_MAX_S
    with streams.viewing(engine, saga, seen) as viewer:
        is_complete = False
        while not is_complete:
            saga, news, until = await to_thread.run_sync(_known, engine, saga, seen, limiter=streams.threads)
            for event in _entries(news, seen):
                yield event
            seen, is_complete = _last(news, seen), news.is_complete
        yield _event("saga", state_of(saga))
        if news.state in TERMINAL:
            yield _event("end", {"state": news.state})
            return
        yield _event("freshness", freshness_of(until, datetime.now(UTC)))
        async for event in _following(viewer, seen, saga.summary.revision, end_at_s):
            yield event


async def _following(viewer: Viewer, seen: int, revision: int, end_at_s: float) -> AsyncIterator[ServerSentEvent]:
    """Yield what is new behind an entry and a revision, until the saga or the time ends."""
    while (update := await viewer.next(end_at_s - time.monotonic())) is not None:
        for event in _entries(update.news, seen):
            yield event
        seen = _last(update.news, seen)
        if update.saga is not None and update.saga.summary.revision > revision:
            revision = update.saga.summary.revision
            yield _event("saga", state_of(update.saga))
        if update.news.state in TERMINAL and update.news.is_complete:
            yield _event("end", {"state": update.news.state})
            return
        if update.until is not None:
            yield _event("freshness", freshness_of(update.until, datetime.now(UTC)))


def _event(name: str, data: object, event_id: str | None = None) -> ServerSentEvent:
    """Return an event whose data has the form that the other routes give it, such as Z behind a time."""
    return ServerSentEvent(event=name, raw_data=DATA.dump_json(data).decode(), id=event_id)


def _entries(news: News, seen: int) -> list[ServerSentEvent]:
    return [_event("entry", each, str(each.seq)) for each in news.entries if each.seq > seen]


def _last(news: News, seen: int) -> int:
    return max(seen, news.entries[-1].seq) if news.entries else seen


def _known(engine: Engine, saga: SagaView, seen: int) -> tuple[SagaView, News, datetime | None]:
    """Return the saga, what is new behind ``seen``, and until when everything is recorded.

    The saga is read after its entries, so that it is never older than they are.
    """
    saga_id = saga.summary.saga_id
    with reading(engine) as tx:
        news = watching.news(tx, {saga_id: seen}).get(saga_id)
        stored = queries.sagas(tx, [saga_id]).get(saga_id, saga)
        until = queries.recorded_until(tx, saga.partition)
    known = news or News(state=stored.summary.state, revision=stored.summary.revision)
    return stored, known, until
