"""The inbox of shipping's API for the courier's webhooks in a schedule: they are stored as they came, and answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.process.callbacks import CallbackAdapter, received
from chassis.saga import evidence
from proof.connections import ProcessConnection
from proof.databases import NEXT_AWAITED_DUE, Database
from proof.outages import POSTGRESQL
from proof.service import Service

API = 2
"""The number of the connection that shipping's API uses."""
AGAIN_S = 60.0
"""How long the courier waits until it sends again what was not answered."""


@dataclass(slots=True, kw_only=True)
class CallbackInbox:
    """Takes the webhooks of one provider for a service."""

    database: Database
    service: Service
    adapter: CallbackAdapter
    _connection: ProcessConnection = field(init=False)

    def __post_init__(self) -> None:
        self._connection = self.database.connection(self.service.name, API, follow_up=NEXT_AWAITED_DUE)

    def take(self, body: bytes) -> None:
        """Store a webhook. While the service or its database is away it is not answered, and comes again later."""
        schedule, outages = self.service.schedule, self.service.outages
        if outages.is_away(POSTGRESQL) or outages.is_away(self.service.name):
            schedule.at(schedule.now + schedule.within(AGAIN_S), lambda: self.take(body))
            return
        callback = received(self.adapter, [], body, schedule.now, schedule.new_id())
        with self._connection.begin() as tx:
            evidence.store(tx, [callback])
        self.service.look(self._connection.follow_up_rows)
        schedule.note(f"{self.service.name} stores a callback: {body.decode()}")
