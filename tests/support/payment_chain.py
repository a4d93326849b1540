"""Every service of merchants' payments on real PostgreSQL, on one thread: what one publishes, the others get."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sqlalchemy import Engine

from chassis.http import gateway_accounts
from chassis.postgres import migrations
from chassis.process import callbacks
from chassis.saga.handlers import Handlers
from chassis.testing.service import ServiceUnderTest, types
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from payment.gateways.registry import Gateways, gateways_of
from payment.lease import CallLease
from payment.merchants.callbacks import GatewayCallbacks, callbacks_of
from payment.merchants.steps import steps
from proof.schemas import LocalRegistry
from simulators.testing import running
from stack import Stack
from stack import gateways as accounts_files
from stack.home import Home
from stack.providers import ACCOUNT_HOLDERS
from support.postgres import scratch_database
from support.services import handlers
from support.waiting import until

SERVICES = ("merchant", "risk", "ledger", "payment", "notifier", "reconciliation")
ROUNDS_MAX = 200
"""More than any saga has messages: a saga that exceeds it goes in a circle."""


@dataclass(kw_only=True)
class Chain:
    """The services by name, each on a database of its own. ``callbacks`` are those of the gateways by account."""

    engines: Mapping[str, Engine]
    gateways: Gateways
    callbacks: Mapping[str, GatewayCallbacks] = field(default_factory=dict)
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))

    def run(self, start: Message, end: str = "") -> list[Message]:
        """Publish an event of a saga, deliver what follows to the services that handle it, and return all messages.

        With ``end`` it waits for what gateways report, until a message of that type is published.
        """
        services = [self._service(name, start.saga_id) for name in SERVICES]
        payment = next(service for service in services if service.name == "payment")
        published, waiting = [start], [start]
        for _ in range(ROUNDS_MAX):
            if not waiting:
                if not end or end in types(published):
                    return published
                found = until(lambda: self._reported(payment), f"{end} after {types(published)}", within_s=30)
                published += found
                waiting += found
            message = waiting.pop(0)
            for service in services:
                if service.handlers.handling(message):
                    found = service.deliver(message) + _called(service)
                    assert service.letters == [], f"{service.name} dead-lettered {message}: {service.letters}"
                    published += found
                    waiting += found
        raise AssertionError(f"The saga goes in a circle: {types(published[-20:])}")

    def take(self, account: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Take a webhook as payment's API does. Raises BadSignature."""
        adapter, now = self.callbacks[account], datetime.now(UTC)
        adapter.authenticate(headers, body, now)
        callback = callbacks.Callback(adapter=adapter, headers=headers, body=body, at=now, new_id=new_id)
        callbacks.take(self.engines["payment"], [callback])

    def _reported(self, payment: ServiceUnderTest) -> list[Message]:
        payment.now = datetime.now(UTC)
        with payment.engine.begin() as tx:
            callbacks.match_orphans(tx, list(self.callbacks.values()), now=payment.now)
        return payment.decide() + _called(payment)

    def _service(self, name: str, saga_id: str) -> ServiceUnderTest:
        found = Handlers.of(steps(self.gateways)) if name == "payment" else handlers()[name]
        return ServiceUnderTest(
            name=name,
            engine=self.engines[name],
            handlers=found,
            codec=self.codec,
            saga_id=saga_id,
            now=datetime.now(UTC),
        )


def _called(service: ServiceUnderTest) -> list[Message]:
    """Make the planned calls of a service, one after the other, once Kafka has what announces them."""
    published = []
    while service.calls:
        service.acknowledge()
        published += service.call()
    return published


@contextmanager
def chain(stack: Stack, gateways: Gateways) -> Iterator[Chain]:
    """Yield the services, each on an empty, migrated database."""
    with ExitStack() as opened:
        engines = {name: opened.enter_context(scratch_database(stack)) for name in SERVICES}
        for name, engine in engines.items():
            migrations.upgrade(name, engine)
        yield Chain(engines=engines, gateways=gateways)


@contextmanager
def chain_at_simulators(stack: Stack, folder: Path) -> Iterator[Chain]:
    """Yield the services with both gateways' simulators, which send their webhooks by HTTP."""
    home = Home(folder)
    home.prepare()
    made: list[Chain] = []
    with ExitStack() as opened:
        receiver = opened.enter_context(_receiving(made))
        accounts_files.ensure_keys(home)
        urls = {}
        for name in ACCOUNT_HOLDERS:
            file = accounts_files.for_simulator(home, name, receiver)
            environment = {
                "BARAZA_SIMULATOR_RECORDS": str(folder / f"{name}.db"),
                "BARAZA_SIMULATOR_ACCOUNTS": str(file),
            }
            urls[name] = opened.enter_context(running(name, environment)).url
        accounts = gateway_accounts.read(accounts_files.for_services(home, urls)).accounts
        gateways = gateways_of(accounts, CallLease.at("redis://127.0.0.1:1/0"), concurrency_max=4)
        found = opened.enter_context(chain(stack, gateways))
        adapters = callbacks_of(accounts, found.engines["payment"])
        found.callbacks = {account.name: adapter for account, adapter in zip(accounts, adapters, strict=True)}
        made.append(found)
        yield found


@contextmanager
def _receiving(made: list[Chain]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                made[0].take(self.path.rpartition("/")[2], list(self.headers.items()), body)
                self.send_response(204)
            except Exception as error:
                self.send_response(500, str(error))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
