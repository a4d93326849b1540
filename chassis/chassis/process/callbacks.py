"""The inbox for providers' callbacks: a body is authenticated, stored as it came, and answered at once.

It decides nothing. The owner of the partition does, from what is stored. A provider that gets no answer, or an error,
sends again; what is sent again is stored again and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import structlog
from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection, Engine

from chassis.http.problem import Problem
from chassis.http.signatures import BadSignature
from chassis.saga import evidence
from chassis.saga.evidence import Claim, Received, Source
from chassis.telemetry import metrics
from chassis.wire.envelope import NewId

if TYPE_CHECKING:
    from chassis.process.callback_inbox import CallbackInbox

HEADERS_KEPT = ("content-type", "user-agent", "date")
"""Kept of every callback, besides what its adapter names. Others may hold credentials."""

ITEM = "baraza-item"
"""The header that we add to each item of a body that has several: its number from 0."""

log = structlog.get_logger()


class CallbackAdapter(Protocol):
    """What one provider's callbacks look like. ``provider`` names it in paths and in rows."""

    @property
    def provider(self) -> str: ...

    @property
    def headers_kept(self) -> Sequence[str]:
        """The names of the headers that are kept with a body, in small letters: none with a credential."""
        ...

    def authenticate(self, headers: Sequence[tuple[str, str]], body: bytes, now: datetime) -> None:
        """Raise BadSignature unless the provider sent this."""
        ...

    def read(self, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
        """Return what the body says of an attempt; None where it cannot be read."""
        ...


@runtime_checkable
class ItemisedCallbacks(Protocol):
    """What an adapter has besides, whose provider puts several items into one body, or calls about more than attempts.

    Each item is a piece of evidence of its own, with the whole body. ``ITEM`` among its headers says which one it is.
    """

    def items(self, body: bytes) -> int:
        """Return how many items a body has, at least 1. Raises ValueError for one of another form."""
        ...

    def keep(self, tx: Connection, received: Received) -> bool:
        """Store what the service itself keeps of an item, and return whether it is evidence about an attempt."""
        ...


def router(
    adapter: CallbackAdapter, inbox: CallbackInbox, *, clock: Callable[[], datetime], new_id: NewId
) -> APIRouter:
    """Return the route ``POST /v1/callbacks/<provider>``. It takes no token: the signature is what admits a caller."""
    routes = APIRouter()

    @routes.post(f"/v1/callbacks/{adapter.provider}", status_code=204, include_in_schema=False)
    async def take_callback(request: Request) -> Response:
        body = await request.body()
        headers = list(request.headers.items())
        now = clock()
        try:
            adapter.authenticate(headers, body, now)
        except BadSignature as error:
            metrics.CALLBACKS.labels(adapter.provider, "refused").inc()
            log.warning("A callback was refused.", provider=adapter.provider, error=str(error))
            raise Problem(status=401, detail="The callback is not signed as agreed.") from error
        await inbox.put(Callback(adapter=adapter, headers=headers, body=body, at=now, new_id=new_id))
        metrics.CALLBACKS.labels(adapter.provider, "stored").inc()
        return Response(status_code=204)

    for outcome in ("refused", "stored"):
        metrics.CALLBACKS.labels(adapter.provider, outcome)
    return routes


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A callback as it came, authenticated, and the source of ids for what is stored of it."""

    adapter: CallbackAdapter
    headers: Sequence[tuple[str, str]]
    body: bytes
    at: datetime
    new_id: NewId

    def pieces(self) -> list[Received]:
        """Return what is stored of it, one for each of its items. Raises Problem for a body of another form."""
        if not isinstance(self.adapter, ItemisedCallbacks):
            return [received(self.adapter, self.headers, self.body, self.at, self.new_id())]
        try:
            count = self.adapter.items(self.body)
        except ValueError as error:
            metrics.CALLBACKS.labels(self.adapter.provider, "refused").inc()
            raise Problem(status=400, detail=f"The callback has another form than agreed: {error}.") from error
        without = [(name, value) for name, value in self.headers if name != ITEM]
        headers = [[*without, (ITEM, str(number))] for number in range(count)]
        return [received(self.adapter, each, self.body, self.at, self.new_id()) for each in headers]


def take(engine: Engine, callbacks: Sequence[Callback]) -> None:
    """Store callbacks in one transaction, which is committed before the providers get their answers."""
    found = [(each.adapter, each.pieces()) for each in callbacks]
    with engine.begin() as tx:
        store(tx, found)


def store(tx: Connection, found: Sequence[tuple[CallbackAdapter, Sequence[Received]]]) -> None:
    """Store the pieces of callbacks with their adapters, which keep what is theirs."""
    kept: list[Received] = []
    for adapter, pieces in found:
        keep = adapter.keep if isinstance(adapter, ItemisedCallbacks) else None
        kept += [each for each in pieces if keep is None or keep(tx, each)]
    evidence.store(tx, kept)


def received(
    adapter: CallbackAdapter, headers: Sequence[tuple[str, str]], body: bytes, now: datetime, evidence_id: str
) -> Received:
    """Return a callback as it is stored; one that its adapter cannot read has no claim."""
    kept = {*HEADERS_KEPT, *adapter.headers_kept, ITEM}
    return Received(
        id=evidence_id,
        provider=adapter.provider,
        source=Source.CALLBACK,
        received_at=now,
        headers=[(name, value) for name, value in headers if name in kept],
        body=body,
        claim=read(adapter, headers, body),
    )


def read(adapter: CallbackAdapter, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
    """Return what an adapter reads in a body; None where the database cannot hold it.

    An adapter that raises must not lose the body, which is read again later.
    """
    try:
        claim = adapter.read(headers, body)
    except Exception:  # an adapter may raise anything for a body of a form that it does not know
        log.exception("A callback cannot be read; it is stored and read again.", provider=adapter.provider)
        return None
    if claim is None or claim.is_storable:
        return claim
    log.warning("A callback has a text that PostgreSQL cannot hold; its body is stored.", provider=adapter.provider)
    return None


def match_orphans(tx: Connection, adapters: Sequence[CallbackAdapter], *, now: datetime) -> int:
    """Read the orphans that are due once more, match them, and return how many are none any more."""
    by_provider = {adapter.provider: adapter for adapter in adapters}
    pairs: list[tuple[evidence.Orphan, Claim | None]] = []
    for orphan in evidence.orphans(tx, now=now):
        adapter = by_provider.get(orphan.provider)
        claim = orphan.claim or (None if adapter is None else read(adapter, orphan.headers, orphan.body))
        pairs.append((orphan, claim))
    return evidence.match(tx, pairs, now=now)
