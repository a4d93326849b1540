"""Members' HTTP API: the channel's, members' own with their tokens, and that of staff."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI

from chassis.http import problem
from chassis.http.rate_limits import RateLimits
from chassis.postgres.transient import transact
from chassis.process.service import Dependencies
from chassis.saga.publisher import OutboxPublisher, Relay, producer
from chassis.telemetry import metrics
from chassis.wire.kafka import KafkaLogin
from chassis.wire.redis import RedisLogin
from members import dividend_api, loan_api, member_api, receipt_api, request_api, terms_api
from members.endpoints import ApiResources
from members.intake import TOPIC
from members.member_batcher import RequestsOfMembers
from members.releasing import RunReleaser
from messages.members import (
    CollectionRequested,
    DividendChunkReleased,
    DividendPayoutReleased,
    DividendRunApproved,
    DividendWaveRequested,
    LoanApproved,
    LoanRepaymentRequested,
    MemberRegistered,
    ReceiptAssigned,
    ReceiptReturnApproved,
    WithdrawalCancellationRequested,
    WithdrawalRequested,
)

IN_FLIGHT_MAX: Final = 50_000
"""Events that Kafka has not acknowledged; while it is unavailable, members goes on, and later ones stay rows."""
BODY_BYTES_MAX: Final = 65_536
"""Some times what the largest tariff takes."""
PUBLISHED: Final = (
    CollectionRequested, DividendChunkReleased, DividendPayoutReleased, DividendRunApproved, DividendWaveRequested,
    LoanApproved, LoanRepaymentRequested, MemberRegistered, ReceiptAssigned, ReceiptReturnApproved,
    WithdrawalCancellationRequested, WithdrawalRequested,
)  # fmt: skip
"""The events of requests and of dividend runs; the registry knows them before the first one is published."""
PER_SECOND: Final[Mapping[str, int]] = {
    "member": 20, "teller": 1_000, "treasury": 100, "finance": 100, "approver": 100, "support": 100, "operator": 200,
}  # fmt: skip


def application(dependencies: Dependencies, requests_per_second: Mapping[str, int] = PER_SECOND) -> FastAPI:
    """Return the API. Its lifespan starts the batcher and the releaser, and stops them without losing a request."""
    settings = dependencies.settings
    phone_key = b"" if settings.phone_key_file is None else settings.phone_key_file.read_bytes().strip()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(dependencies.codec.learn, TOPIC, PUBLISHED)
        batcher = _batcher(dependencies)
        app.state.resources = ApiResources(
            engine=dependencies.engine, codec=dependencies.codec, batcher=batcher, phone_key=phone_key
        )
        releaser = RunReleaser(dependencies.engine, dependencies.codec, batcher.publish)
        batcher.start(asyncio.get_running_loop())
        releaser.start()
        yield
        await asyncio.to_thread(releaser.stop)
        await asyncio.to_thread(batcher.stop)

    app = FastAPI(
        title="Members", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    problem.install(app, body_bytes_max=BODY_BYTES_MAX)
    metrics.install(app, dependencies.traces)
    app.state.verifier = dependencies.verifier
    app.state.rate_limits = RateLimits(
        settings.redis_url, RedisLogin.of(settings), requests_per_second, service=settings.service
    )
    for each in (request_api, member_api, loan_api, receipt_api, dividend_api, terms_api):
        app.include_router(each.routes)
    return app


def _batcher(dependencies: Dependencies) -> RequestsOfMembers:
    settings, engine = dependencies.settings, dependencies.engine
    observer = dependencies.observer()

    def new_relay() -> Relay:
        return Relay(producer(KafkaLogin.of(settings), client_id=f"{settings.service}-api"), observer)

    publisher = OutboxPublisher(
        partial(transact, engine), new_relay(), new_relay=new_relay, in_flight_max=IN_FLIGHT_MAX
    )
    return RequestsOfMembers(engine, dependencies.codec, publisher, gather_s=settings.gather_s)
