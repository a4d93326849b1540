"""The providers by short code: each request goes to the short code that it names, if the lane is open."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Engine

from chassis.http.downstream import Downstream, Unavailable
from chassis.saga.answers import Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from chassis.wire.envelope import new_id
from mobile_money import http_daraja, http_momo, raw_callbacks
from mobile_money.lanes import Lane, LaneGate, LaneId
from mobile_money.limiter import Limiter
from mobile_money.port import Payout, Provider, Refused, Requested
from mobile_money.questions import Questions
from mobile_money.raw_callbacks import RawCallback
from mobile_money.short_codes import ShortCode
from mobile_money.tokens import Tokens

TIMEOUT_S: Final = 3.0
"""A call that takes longer counts as unanswered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """The providers of all short codes, by the digits of each."""

    by_short_code: dict[str, Provider]
    gate: LaneGate
    limiters: dict[str, Limiter] = field(default_factory=dict)

    def send(self, request: Requested, key: str) -> SendAnswer:
        """Send an attempt. Nothing is sent into a lane that is paused."""
        if not isinstance(request, Payout):
            return self.of(request.short_code).send(request, key)
        lane = LaneId(short_code=request.short_code, name=Lane(request.lane))
        self.gate.check(lane)
        answer = self.of(request.short_code).send(request, key)
        if isinstance(answer, Proven) and answer.outcome is Outcome.FAILED:
            self.gate.pause_for_fault(lane, Refused.of(answer.detail, answer.outcome).reason)
        return answer

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        """Return what became of an attempt."""
        return self.of(request.short_code).query(request, key, provider_id)

    def of(self, short_code: str) -> Provider:
        """Return the provider of a short code. Raises Unavailable where there is none."""
        provider = self.by_short_code.get(short_code)
        if provider is None:
            known = ", ".join(sorted(self.by_short_code)) or "none"
            raise Unavailable(
                "its short code is not configured",
                certain_no_effect=True,
                detail=f"{short_code!r} is none of {known}; check the file of short codes",
            )
        return provider

    def is_slowed(self, short_code: str) -> bool:
        """Return whether the provider has lately refused requests of this process for being too many."""
        limiter = self.limiters.get(short_code)
        return limiter is not None and limiter.is_slowed

    def own_id(self, short_code: str, key: str) -> str | None:
        """Return our id of an attempt as its provider has it; None where the short code is not configured."""
        provider = self.by_short_code.get(short_code)
        return None if provider is None else provider.own_id(key)


def providers_of(
    short_codes: Iterable[ShortCode], engine: Engine, *, clock: Callable[[], datetime], concurrency_max: int
) -> Providers:
    """Return the providers of these short codes. Nothing connects, and no secret is read, before the first call."""
    questions, found, limiters = Questions(engine, clock), {}, {}
    for each in short_codes:
        limiter = Limiter(each.name, each.calls_per_s, each.members_share)
        limiters[each.short_code] = limiter
        found[each.short_code] = _provider(each, engine, limiter, questions, clock, concurrency_max)
    return Providers(by_short_code=found, gate=LaneGate(engine), limiters=limiters)


def keep_answer(engine: Engine, clock: Callable[[], datetime], name: str, kind: str, body: bytes) -> None:
    """Keep the answer to a query as a callback is kept: it is decided about in the same way."""
    callback = RawCallback(
        id=new_id(),
        name=name,
        kind=kind,
        remote="",
        headers="[]",
        body=body,
        body_sha256=hashlib.sha256(body).hexdigest(),
        received_at=clock(),
    )
    with engine.begin() as tx:
        raw_callbacks.store(tx, [callback])


def _provider(
    short_code: ShortCode,
    engine: Engine,
    limiter: Limiter,
    questions: Questions,
    clock: Callable[[], datetime],
    concurrency_max: int,
) -> Provider:
    def tokens(fetch: Callable[[], tuple[str, float]]) -> Tokens:
        return Tokens(engine, short_code.name, fetch, clock)

    def tokens_of(product: str, fetch: Callable[[], tuple[str, float]]) -> Tokens:
        return Tokens(engine, f"{short_code.name}{product}", fetch, clock)

    reads_error = http_daraja.reads_error if short_code.provider == "daraja" else None
    downstream = Downstream(
        short_code.name,
        str(short_code.url),
        timeout_s=TIMEOUT_S,
        concurrency_max=concurrency_max,
        reads_error=reads_error,
    )
    if short_code.provider == "daraja":
        return http_daraja.Daraja(
            short_code, downstream, tokens=tokens, limiter=limiter, questions=questions, clock=clock
        )
    keep = partial(keep_answer, engine, clock)
    return http_momo.Momo(short_code, downstream, tokens=tokens_of, limiter=limiter, keep=keep)
