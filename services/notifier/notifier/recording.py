"""Records a process's finished attempts in one transaction, with what follows for their endpoints.

An endpoint that is disabled is reported in the stream on Kafka, and to the merchant's other endpoints.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from chassis.wire.envelope import derived_id
from notifier.domain import EventType, MerchantNotice
from notifier.model.schedule import Answer, Verdict, judge
from notifier.notices import Save, store
from notifier.store.leasing import (
    EndpointHealth,
    Leased,
    Settled,
    attempt_counts,
    change_endpoints,
    lock_endpoints,
    settle,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An attempt that a process has made, and what came of it."""

    leased: Leased
    answer: Answer
    began_at: datetime
    ended_at: datetime


def record(
    finished: Sequence[Finished], lease: str, save: Save, tx: Connection, *, now: datetime, chance: random.Random
) -> list[Settled]:
    """Record attempts, and return how they are stored.

    One whose lease has ended was made by another process as well, which records its own.
    """
    if not finished:
        return []
    endpoints = lock_endpoints({each.leased.endpoint_id for each in finished}, tx)
    counts = attempt_counts({each.leased.delivery_id for each in finished}, lease, tx)
    settled = []
    for each in finished:
        endpoint = endpoints.get(each.leased.endpoint_id)
        number = counts.get(each.leased.delivery_id, 0) + 1
        verdict = judge(
            each.answer,
            number=number,
            failing_since=None if endpoint is None else endpoint.failing_since,
            now=each.ended_at,
            chance=chance,
        )
        if endpoint is not None:
            _take_note(endpoint, each, verdict)
        if each.leased.delivery_id in counts:
            settled.append(_settled(each, number, verdict))
    settle(settled, tx, now=now)
    change_endpoints(list(endpoints.values()), tx, now=now)
    store([_disabled(each, now) for each in endpoints.values() if each.disabled], save, tx)
    return settled


def _take_note(endpoint: EndpointHealth, finished: Finished, verdict: Verdict) -> None:
    if verdict.is_delivered:
        endpoint.failing_since = None
        return
    endpoint.failing_since = endpoint.failing_since or finished.began_at
    if verdict.slow_until is not None:
        endpoint.slow_until = max(verdict.slow_until, endpoint.slow_until or verdict.slow_until)
    if verdict.disables is not None and endpoint.is_enabled and endpoint.disabled is None:
        endpoint.disabled = verdict.disables.value


def _settled(finished: Finished, number: int, verdict: Verdict) -> Settled:
    state = "DELIVERED" if verdict.is_delivered else "FAILED" if verdict.due_at is None else "DUE"
    duration = finished.ended_at - finished.began_at
    return Settled(
        delivery_id=finished.leased.delivery_id,
        endpoint_id=finished.leased.endpoint_id,
        number=number,
        began_at=finished.began_at,
        duration_ms=round(duration.total_seconds() * 1000),
        outcome=finished.answer.outcome.value,
        status=finished.answer.status,
        state=state,
        due_at=verdict.due_at,
    )


def _disabled(endpoint: EndpointHealth, now: datetime) -> MerchantNotice:
    return MerchantNotice(
        event_id=derived_id("endpoint disabled", endpoint.endpoint_id, now.isoformat()),
        type=EventType.ENDPOINT_DISABLED,
        merchant_id=endpoint.merchant_id,
        is_live=endpoint.is_live,
        occurred_at=now,
        data={"endpoint_id": endpoint.endpoint_id, "is_live": endpoint.is_live, "reason": endpoint.disabled},
    )
