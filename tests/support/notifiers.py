"""The notifier on a database of its own: its handlers, its deliverers, and a clock that a test moves."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from chassis.http import webhook_signing
from chassis.saga.handlers import Handlers
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from notifier.calling import Caller
from notifier.delivering import Deliverer
from notifier.domain import EventType, MerchantNotice, Owner
from notifier.handlers import HANDLERS as DECLARED
from notifier.model.addresses import Rules
from notifier.notices import saving, store
from notifier.sealing import Sealing
from notifier.store import endpoints
from proof.schemas import LocalRegistry
from support.waiting import until

CODEC = Codec(LocalRegistry())
HANDLERS = Handlers.of(DECLARED)
LOOPBACK = Rules(allows_loopback=True)


@dataclass(slots=True)
class Clock:
    """The time, which stands still until a test moves it. It begins now: the standard's package reads its own."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def move(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint of a merchant, with its first secret."""

    endpoint_id: str
    owner: Owner
    secret: str


@dataclass(kw_only=True)
class NotifierUnderTest:
    """A migrated database with the notifier's handlers; ``deliverers`` are its processes so far."""

    engine: Engine
    key_file: Path
    clock: Clock = field(default_factory=Clock)
    deliverers: list[Deliverer] = field(default_factory=list)

    def service(self) -> ServiceUnderTest:
        """Return the handlers for one saga."""
        return ServiceUnderTest(name="notifier", engine=self.engine, handlers=HANDLERS, codec=CODEC, now=self.clock.now)

    def endpoint(self, url: str, *, merchant: str = "", is_live: bool = False, types: Sequence[str] = ()) -> Endpoint:
        """Store an endpoint of a merchant of its own, unless one is given."""
        owner = (merchant or new_merchant(), is_live)
        secret = webhook_signing.new_secret()
        new = endpoints.NewEndpoint(endpoint_id=new_id(), url=url, description="", types=types)
        with self.engine.begin() as tx:
            endpoints.create(new, Sealing(self.key_file).seal(secret), owner, tx, now=self.clock())
        return Endpoint(endpoint_id=new.endpoint_id, owner=owner, secret=secret)

    def notify(self, owner: Owner, event_type: EventType = EventType.PAYMENT_CAPTURED, **data: Any) -> str:
        """Store an event of a merchant, and return its id."""
        merchant_id, is_live = owner
        notice = MerchantNotice(
            event_id=new_id(), type=event_type, merchant_id=merchant_id, is_live=is_live,
            occurred_at=self.clock(), data=data,
        )  # fmt: skip
        with self.engine.begin() as tx:
            store([notice], saving(CODEC), tx)
            # The database's own clock is ahead of a test's that stands still.
            tx.execute(
                text("UPDATE deliveries SET due_at = :now WHERE event_id = :id"),
                {"now": self.clock(), "id": notice.event_id},
            )
        return notice.event_id

    def deliverer(self, *, caller: Caller | None = None, **more: Any) -> Deliverer:
        """Return a process that delivers; it begins nothing by itself."""
        made = Deliverer(
            self.engine, caller or Caller(LOOPBACK), Sealing(self.key_file), saving(CODEC),
            clock=self.clock, chance=random.Random(0), **more,
        )  # fmt: skip
        self.deliverers.append(made)
        return made

    def deliver(self, deliverer: Deliverer | None = None) -> int:
        """Let a process deliver what is due, until nothing is and all is recorded. Return how many calls it made."""
        process = deliverer or self.deliverer()
        count = process.run_once()
        while process.under_way_count:
            assert process.wait(60), "a call has not ended"
            count += process.run_once()
        return count

    def rows(self, query: str, **parameters: Any) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text(query), parameters).all()

    def states(self, endpoint: Endpoint) -> list[tuple[Any, ...]]:
        """Return the state, the attempts and the last outcome of an endpoint's deliveries, the oldest first."""
        query = """
            SELECT state, attempt_count, last_outcome FROM deliveries WHERE endpoint_id = :id ORDER BY position
        """
        return [tuple(row) for row in self.rows(query, id=endpoint.endpoint_id)]

    def row(self, endpoint: Endpoint) -> Any:
        """Return an endpoint's row."""
        return self.rows("SELECT * FROM endpoints WHERE endpoint_id = :id", id=endpoint.endpoint_id)[0]

    def due_in(self, endpoint: Endpoint) -> timedelta:
        """Return in how long the one delivery of an endpoint that is due is attempted again."""
        query = "SELECT due_at FROM deliveries WHERE endpoint_id = :id AND state = 'DUE'"
        ((due_at,),) = self.rows(query, id=endpoint.endpoint_id)
        found: timedelta = due_at - self.clock()
        return found

    def published(self, owner: Owner) -> list[Any]:
        """Return the merchant's events that wait in the outbox for Kafka."""
        query = "SELECT payload FROM outbox WHERE aggregatetype = 'notification.events' AND aggregateid = :id"
        return [CODEC.decode(bytes(payload)) for (payload,) in self.rows(f"{query} ORDER BY seq", id=owner[0])]


def new_merchant() -> str:
    """Return a merchant that no other test knows."""
    return f"m-{new_id().lower()}"


def background(run: Any) -> threading.Thread:
    """Run something on a thread that a test joins."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


__all__ = ["CODEC", "LOOPBACK", "Clock", "Endpoint", "NotifierUnderTest", "background", "new_merchant", "until"]
