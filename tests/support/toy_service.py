"""Toy services as processes on real Kafka and PostgreSQL, which a test may kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from chassis.wire.codec import Codec
from messages.contract import Message
from stack import Stack, postgres
from stack.services import kafka_environment
from support import toy
from support.topics import OutgoingMessage, Stored, publish, stored

STOPS_WITHIN_S = 60.0
"""On a busy machine; what a stop may take is tested where a service is a whole process."""
TESTS = Path(__file__).resolve().parents[1]


@dataclass(kw_only=True)
class Toy:
    """A toy service: its database, its topics, and processes of it. ``module`` is run as ``name``."""

    stack: Stack
    engine: Engine
    codec: Codec
    logs: Path
    name: str = toy.NAME
    module: str = "support.toy"
    events: str = toy.EVENTS

    @contextmanager
    def process(
        self, service: str | None = None, *, postgres_port: int | None = None, registry_url: str | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run one process of it for the block; it may be killed inside. A proxy has an address of its own."""
        ends, url = self.stack.endpoints, self.engine.url
        url = url if postgres_port is None else url.set(port=postgres_port)
        environment = {
            **os.environ,
            "PYTHONPATH": str(TESTS),
            "BARAZA_SERVICE": service or self.name,
            **kafka_environment(self.stack.kafka()),
            "BARAZA_REGISTRY_URL": registry_url or ends.registry_url,
            "BARAZA_DATABASE_URL": url.set(password=None).render_as_string(),
            "BARAZA_DATABASE_PASSWORD_FILE": str(self.stack.home / "secrets" / postgres.SUPERUSER),
        }
        with (self.logs / "toy.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", self.module], env=environment, stdout=log, stderr=log)
            try:
                yield process
                # Asked to stop, it leaves its group at once; the next test need not wait for its session to end.
                process.terminate()
                process.wait(STOPS_WITHIN_S)
            finally:
                process.kill()
                process.wait(10)

    def send(self, *messages: Message, topic: str = toy.INPUT, partition: int = 0) -> list[OutgoingMessage]:
        """Publish messages to the toy, and return them as published."""
        parcels = [self.parcel(message, topic=topic, partition=partition) for message in messages]
        publish(self.stack.kafka(), parcels)
        return parcels

    def parcel(self, message: Message, *, topic: str = toy.INPUT, partition: int = 0) -> OutgoingMessage:
        schema_topic = toy.EVENTS if isinstance(message, toy.EMITTED) and topic == toy.COMMANDS else topic
        value = self.codec.encode(schema_topic, message)
        headers = (("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),)
        return OutgoingMessage(
            topic=topic, partition=partition, key=message.saga_id.encode(), value=value, headers=headers
        )

    def stored(self, *topics: str) -> list[Stored]:
        return stored(self.stack.kafka(), *topics)

    def answers(self, saga_ids: Sequence[str]) -> list[Stored]:
        """Return what the toy announced about these sagas."""
        keys = {saga_id.encode() for saga_id in saga_ids}
        return [message for message in self.stored(self.events) if message.key in keys]

    def letters(self, topic: str, saga_id: str) -> list[Stored]:
        return [message for message in self.stored(topic) if message.key == saga_id.encode()]

    def rows(self, query: str, **values: object) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def parked(self, saga_ids: Sequence[str]) -> dict[str, str]:
        """Return for which handler the last message of each saga is parked or blocked."""
        rows = self.rows("SELECT saga_id, handler FROM deferred WHERE due_at IS NULL ORDER BY place")
        return {row.saga_id: row.handler for row in rows if row.saga_id in saga_ids}

    def waiting(self, saga_id: str) -> list[Any]:
        return self.rows("SELECT * FROM deferred WHERE saga_id = :saga_id", saga_id=saga_id)

    def spoken(self, saga_id: str) -> list[type[Message]]:
        return [type(self.codec.decode(answer.value)) for answer in self.answers([saga_id])]

    def done(self, saga_ids: Sequence[str]) -> dict[str, int]:
        rows = self.rows("SELECT saga_id, sum(done) AS done FROM marks GROUP BY saga_id")
        return {row.saga_id: row.done for row in rows if row.saga_id in set(saga_ids)}
