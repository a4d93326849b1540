"""Every service of merchants' payments on real PostgreSQL, on one thread: what one publishes, the others get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Engine

from chassis.postgres import migrations
from chassis.saga.handlers import Handlers
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from messages.contract import Message
from payment.gateways.port import Gateway
from payment.gateways.registry import Gateways
from payment.merchants.steps import steps
from proof.schemas import LocalRegistry
from stack import Stack
from support.postgres import scratch_database
from support.services import handlers

SERVICES = ("merchant", "risk", "ledger", "payment", "notifier", "reconciliation")
ROUNDS_MAX = 200
"""More than any saga has messages: a saga that exceeds it goes in a circle."""


@dataclass(kw_only=True)
class Chain:
    """The services by name, each on a database of its own."""

    engines: Mapping[str, Engine]
    gateways: Mapping[str, Gateway]
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))

    def run(self, start: Message) -> list[Message]:
        """Publish an event of a saga, deliver what follows to whoever handles it, and return all messages."""
        services = [self._service(name, start.saga_id) for name in SERVICES]
        published, waiting = [start], [start]
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return published
            message = waiting.pop(0)
            for service in services:
                if service.handlers.handling(message):
                    found = service.deliver(message) + _called(service)
                    assert service.letters == [], f"{service.name} dead-lettered {message}: {service.letters}"
                    published += found
                    waiting += found
        raise AssertionError(f"The saga goes in a circle: {[type(each).__name__ for each in published[-20:]]}")

    def _service(self, name: str, saga_id: str) -> ServiceUnderTest:
        found = Handlers.of(steps(Gateways(self.gateways))) if name == "payment" else handlers()[name]
        return ServiceUnderTest(name=name, engine=self.engines[name], handlers=found, codec=self.codec, saga_id=saga_id)


def _called(service: ServiceUnderTest) -> list[Message]:
    """Make the planned calls of a service, one after the other, once Kafka has what announces them."""
    published = []
    while service.calls:
        service.acknowledge()
        published += service.call()
    return published


@contextmanager
def chain(stack: Stack, gateways: Mapping[str, Gateway]) -> Iterator[Chain]:
    """Yield the services, each on an empty, migrated database."""
    with ExitStack() as opened:
        engines = {name: opened.enter_context(scratch_database(stack)) for name in SERVICES}
        for name, engine in engines.items():
            migrations.upgrade(name, engine)
        yield Chain(engines=engines, gateways=gateways)
