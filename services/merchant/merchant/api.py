"""Merchant's HTTP API: its routes, and what they are made with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI

from chassis.http import gateway_accounts, problem
from chassis.http.issuers import TwoIssuers
from chassis.http.rate_limits import RateLimits
from chassis.postgres.transient import transact
from chassis.process.service import Dependencies
from chassis.saga.publisher import OutboxPublisher, Relay, producer
from chassis.telemetry import metrics
from chassis.wire.kafka import KafkaLogin
from chassis.wire.redis import RedisLogin
from merchant import merchant_api, payment_api, tokens
from merchant.access import KeysAndTokens
from merchant.endpoints import ApiResources
from merchant.intake import TOPIC, Terms
from merchant.payment_batcher import PaymentBatcher
from merchant.roles import MERCHANT_ROLES
from merchant.waiting import OutcomeWaiter
from merchant.worker_slots import PaymentIds
from messages.merchant import (
    CaptureRequested,
    MerchantRegistered,
    PaymentCancellationRequested,
    PaymentSubmitted,
    RefundRequested,
    VoidRequested,
)

IN_FLIGHT_MAX: Final = 50_000
"""Events that Kafka has not acknowledged; while it is unavailable, merchant goes on, and later ones stay rows."""
BODY_BYTES_MAX: Final = 65_536
"""Some times what a payment with all of its metadata takes."""
PUBLISHED: Final = (
    CaptureRequested, MerchantRegistered, PaymentCancellationRequested, PaymentSubmitted, RefundRequested, VoidRequested
)  # fmt: skip
"""The events of requests; the registry knows them before the first one is accepted."""
PER_SECOND: Final[Mapping[str, int]] = {"merchant": 200, "support": 100, "finance": 100, "operator": 200}


def application(dependencies: Dependencies, requests_per_second: Mapping[str, int] = PER_SECOND) -> FastAPI:
    """Return the API. Its lifespan starts the batcher and the publisher, and stops them without losing a payment.

    Raises InvalidGatewayAccounts or InvalidTokenKey where a file of the settings cannot be used.
    """
    settings = dependencies.settings
    accounts = gateway_accounts.read(settings.gateway_accounts_file)
    payer_key = b"" if settings.payer_key_file is None else settings.payer_key_file.read_bytes().strip()
    issuer = tokens.read(settings.merchant_token_key_file, settings.audience)
    terms = Terms(codec=dependencies.codec, accounts=accounts, payer_key=payer_key)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(dependencies.codec.learn, TOPIC, PUBLISHED)
        resources = _resources(dependencies, terms, issuer)
        app.state.resources = resources
        resources.batcher.start(asyncio.get_running_loop())
        yield
        await asyncio.to_thread(resources.batcher.stop)

    app = FastAPI(
        title="Merchant", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    problem.install(app, body_bytes_max=BODY_BYTES_MAX)
    metrics.install(app, dependencies.traces)
    general = dependencies.verifier
    verifier = general if issuer is None else TwoIssuers(general, issuer.verifier(), believed=MERCHANT_ROLES)
    app.state.verifier = KeysAndTokens(dependencies.engine, verifier)
    app.state.rate_limits = RateLimits(
        settings.redis_url, RedisLogin.of(settings), requests_per_second, service=settings.service
    )
    for router in (payment_api.routes, merchant_api.routes, merchant_api.published_keys):
        app.include_router(router)
    return app


def _resources(dependencies: Dependencies, terms: Terms, issuer: tokens.TokenIssuer | None) -> ApiResources:
    settings, engine = dependencies.settings, dependencies.engine
    observer = dependencies.observer()

    def new_relay() -> Relay:
        return Relay(producer(KafkaLogin.of(settings), client_id=f"{settings.service}-api"), observer)

    publisher = OutboxPublisher(
        partial(transact, engine), new_relay(), new_relay=new_relay, in_flight_max=IN_FLIGHT_MAX
    )
    ids = PaymentIds(engine)
    return ApiResources(
        engine=engine,
        codec=dependencies.codec,
        ids=ids,
        batcher=PaymentBatcher(engine, terms, publisher, ids, gather_s=settings.gather_s),
        waiter=OutcomeWaiter.of(engine),
        takes_payments=bool(terms.payer_key),
        tokens=issuer,
    )
