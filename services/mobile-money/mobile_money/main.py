"""The mobile-money process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from chassis.postgres.transient import transact, utc_now
from chassis.process import service
from chassis.process.calls import CALLS_MAX
from chassis.process.service import Dependencies, Service
from chassis.saga.publisher import OutboxPublisher, Relay, producer
from chassis.wire.kafka import KafkaLogin
from messages.mobile_money import DayCloseRequested, ReceiptReceived
from mobile_money import api, short_codes
from mobile_money.asking import tasks
from mobile_money.decider import Decider
from mobile_money.handlers import handlers
from mobile_money.inbox import Inbox
from mobile_money.intake import Deciding
from mobile_money.limiter import LimiterShares
from mobile_money.measures import MEASURES
from mobile_money.receipts import EVENTS
from mobile_money.registry import Providers
from mobile_money.short_codes import ShortCode
from mobile_money.wiring import providers_of

IN_FLIGHT_MAX: Final = 50_000
"""Events of receipts that Kafka has not acknowledged; later ones stay rows, and are published by a sweep."""


def build(dependencies: Dependencies) -> Service:
    """Wire the service. Raises InvalidShortCodes."""
    return with_providers(dependencies, lambda codes: _providers(dependencies, codes))


def with_providers(dependencies: Dependencies, providers_at: Callable[[Iterable[ShortCode]], Providers]) -> Service:
    """Wire the service with the providers that this function returns for the short codes. Raises InvalidShortCodes."""
    settings, engine = dependencies.settings, dependencies.engine
    known = short_codes.read(settings.short_codes_file)
    providers = providers_at(known.short_codes)
    phone_key = b"" if settings.phone_key_file is None else settings.phone_key_file.read_bytes().strip()
    needed = Deciding(short_codes=known, codec=dependencies.codec, phone_key=phone_key)
    decider = Decider(engine, needed, partial(_publisher, dependencies), utc_now)
    inbox = Inbox(engine, decider.wake)
    instance = f"{socket.gethostname()}-{os.getpid()}"
    shares = LimiterShares(engine, settings.service, instance, lambda: list(providers.limiters.values()))
    return Service(
        handlers=handlers(providers),
        app=api.application(dependencies, known, inbox, needed),
        runners=(inbox, decider, shares),
        tasks=tasks(known, providers, needed, utc_now),
        also_publishes={EVENTS: (ReceiptReceived, DayCloseRequested)},
        measures=MEASURES,
        # Callbacks are stored while Kafka is unavailable: what a provider sends it may never send again.
        starts_without=("Kafka",),
    )


def _providers(dependencies: Dependencies, codes: Iterable[ShortCode]) -> Providers:
    return providers_of(codes, dependencies.engine, clock=utc_now, concurrency_max=CALLS_MAX)


def _publisher(dependencies: Dependencies) -> OutboxPublisher:
    settings, observer = dependencies.settings, dependencies.observer()

    def new_relay() -> Relay:
        return Relay(producer(KafkaLogin.of(settings), client_id=f"{settings.service}-receipts"), observer)

    return OutboxPublisher(
        partial(transact, dependencies.engine), new_relay(), new_relay=new_relay, in_flight_max=IN_FLIGHT_MAX
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
