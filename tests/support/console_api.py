"""The tracker for tests of what a console reads: it records messages without Kafka, and serves its API over HTTP."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from sqlalchemy import Engine

from chassis.http.server import server_of
from chassis.process.service import Dependencies, api
from chassis.saga.deferred import RawMessage
from chassis.settings import Settings
from chassis.wire.codec import Codec
from messages.contract import Message
from proof.schemas import LocalRegistry
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.http.live import Streams
from saga_tracker.http.now_api import Answers
from saga_tracker.http.routers import ROUTERS
from saga_tracker.ingest.operator_acts import OperatorActs
from saga_tracker.ingest.recorder import Recorder
from saga_tracker.ingest.records import Record
from saga_tracker.store.cache import SagaCache
from support.issuer import token, verifying
from support.together import PARTITIONS as PARTITIONS_COUNT
from support.together import raw_of
from support.waiting import until

PARTITIONS: Final = range(PARTITIONS_COUNT)
CODEC: Final = Codec(LocalRegistry())
DEADLINE_S: Final = 60.0


@dataclass(kw_only=True)
class Tracked:
    """A recorder on a database, and what it does on its own: it applies plans."""

    engine: Engine
    recorder: Recorder = field(init=False)
    acts: OperatorActs = field(init=False)
    offsets: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        cache = SagaCache()
        self.recorder = Recorder(DEFINITIONS, CODEC, cache)
        self.acts = OperatorActs(DEFINITIONS, CODEC, cache)

    def record(self, *messages: Message, now: datetime | None = None) -> None:
        """Record these messages as one batch."""
        self.record_raw([raw_of(each, f"{each.OWNER}.events", CODEC) for each in messages], now=now)

    def record_raw(self, raws: Sequence[RawMessage], *, now: datetime | None = None) -> list[Record]:
        """Record a batch as Kafka would deliver it, and return its records."""
        now = now or datetime.now(UTC)
        records = []
        for raw in raws:
            where = (raw.topic, raw.partition)
            records.append(Record(raw=raw, offset=self.offsets[where], timestamp_ms=int(now.timestamp() * 1000)))
            self.offsets[where] += 1
        with self.engine.begin() as tx:
            recorded = self.recorder.record(tx, records, now=now)
        self.recorder.committed(recorded)
        return records

    def apply_plans(self) -> None:
        """Apply the next part of a plan, as each tick of the worker does."""
        with self.engine.begin() as tx:
            self.acts.apply_next(tx, PARTITIONS, now=datetime.now(UTC))


@dataclass(frozen=True, kw_only=True)
class Console:
    """The API of a tracker, and the tracker behind it."""

    engine: Engine
    tracked: Tracked
    url: str
    http: httpx.Client
    state: Any

    def get(self, path: str, role: str = "support", **query: Any) -> Any:
        """Return what is answered with 200."""
        answer = self.http.get(f"{self.url}/v1{path}", params=query, headers=as_role(role))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self, path: str, role: str = "support", **query: Any) -> int:
        return self.http.get(f"{self.url}/v1{path}", params=query, headers=as_role(role)).status_code

    def post(self, path: str, body: Any, *, by: str = "amina", role: str = "operator") -> httpx.Response:
        return self.http.post(f"{self.url}/v1{path}", json=body, headers=as_role(role, by))


def as_role(role: str, subject: str = "amina") -> dict[str, str]:
    """Return the header of a caller with this role."""
    return {"Authorization": f"Bearer {token(subject, role)}"}


@contextmanager
def served(engine: Engine, *, approval_above: int | None = None) -> Iterator[Console]:
    """Serve the tracker's API on this database while the block runs."""
    settings = Settings(
        service="saga-tracker",
        kafka="",
        registry_url="",
        database_url="",
        database_password_file=Path("none"),
        approval_above=approval_above,
    )
    with verifying() as verifier, httpx.Client(timeout=DEADLINE_S, trust_env=False) as http:
        app = api(
            "saga-tracker",
            Dependencies(settings=settings, engine=engine, codec=CODEC, verifier=verifier),
            *ROUTERS,
        )
        app.state.streams, app.state.answers, app.state.reference_key = Streams(), Answers(), None
        app.state.approval_above = settings.approval_above
        server = server_of(app, settings)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started, "the server listens", holds=bool, within_s=DEADLINE_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield Console(
                engine=engine,
                tracked=Tracked(engine=engine),
                url=f"http://127.0.0.1:{port}",
                http=http,
                state=app.state,
            )
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, str | None, Any]]:
    """Yield the events of a stream: the name, the id, and the data."""
    name, id_, data = "message", None, ""
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("id:"):
            id_ = line[3:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            yield name, id_, json.loads(data)
            name, id_, data = "message", None, ""
