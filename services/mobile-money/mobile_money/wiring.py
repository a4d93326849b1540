"""The providers of a process, each with the adapter of its kind. Nothing else knows which adapters there are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Engine

from chassis.http.downstream import Downstream
from chassis.wire.envelope import new_id
from mobile_money import http_daraja, http_momo, raw_callbacks
from mobile_money.lanes import LaneGate
from mobile_money.limiter import Limiter
from mobile_money.port import Provider
from mobile_money.questions import Questions
from mobile_money.raw_callbacks import RawCallback
from mobile_money.registry import Providers
from mobile_money.short_codes import ShortCode
from mobile_money.tokens import Tokens

TIMEOUT_S: Final = 3.0
"""A call that takes longer counts as unanswered."""


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
    return http_momo.Momo(short_code, downstream, tokens=tokens_of, limiter=limiter, keep=keep, clock=clock)
