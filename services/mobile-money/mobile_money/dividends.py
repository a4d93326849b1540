"""The float of waves of dividends: reserved by a wave, taken by its payouts, given back by those that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from chassis.postgres.statement import Statement
from chassis.saga.steps import Handler, Reaction, Step
from messages.contract import Envelope
from messages.members import DividendPayoutReleased
from messages.saga import DividendPayoutFailed
from mobile_money import floats, lanes, waves
from mobile_money.domain import Lane, Verdict
from mobile_money.floats import Floats, Reservation
from mobile_money.registry import Providers
from mobile_money.sagas import dividend_wave, payouts
from mobile_money.step_requests import ReserveWave
from mobile_money.waves import Traffic

RESERVE_WAVE: Final = "reserve_wave"

TRAFFIC: Final = Statement("""
    SELECT short_code,
           count(*) FILTER (WHERE state = 'REQUESTED') AS under_way,
           count(*) FILTER (WHERE state = 'REQUESTED' AND requested_at < now() - %(doubt)s) AS in_doubt,
           count(*) FILTER (WHERE state <> 'REQUESTED') AS ended,
           max(ended_at) AS last_ended_at,
           min(requested_at) FILTER (WHERE state = 'REQUESTED') AS oldest_sent_at
    FROM payouts
    WHERE short_code = ANY(CAST(%(short_codes)s AS text[])) AND lane = 'BULK'
        AND (state = 'REQUESTED' OR requested_at > now() - interval '1 day')
    GROUP BY short_code
""")
ENDED: Final = Statement("""
    SELECT saga_id, state FROM payouts
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND state <> 'REQUESTED'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What decides about waves."""

    floats: Floats
    traffic: dict[str, Traffic]


def load(providers: Providers, requests: Sequence[ReserveWave], tx: Connection) -> Gate:
    """Lock the floats that these waves need, and read how their payouts go."""
    short_codes = sorted({each.short_code for each in requests})
    found = floats.lock(tx, short_codes)
    values = {"short_codes": short_codes, "doubt": waves.IN_DOUBT_AFTER}
    rows = {row.short_code: row for row in TRAFFIC.rows(tx, values)}
    paused = lanes.paused(tx)
    traffic = {
        each: _traffic(rows.get(each), f"{each}:{Lane.BULK}" in paused, providers.is_slowed(each))
        for each in short_codes
    }
    return Gate(floats=found, traffic=traffic)


def decide(request: ReserveWave, gate: Gate, envelope: Envelope) -> Verdict:
    """Decide whether a wave may begin, and reserve its float."""
    own = gate.floats.of(request.short_code)
    verdict = waves.decide(request, own, gate.traffic[request.short_code], envelope["occurred_at"])
    if verdict.reason is None:
        gate.floats.reserve(
            Reservation(saga_id=request.saga_id, short_code=request.short_code, amount_minor=request.amount_minor)
        )
    return verdict


def save(gate: Gate, tx: Connection) -> None:
    """Save what waves have reserved."""
    floats.save(gate.floats, tx)


def on_released(events: Sequence[DividendPayoutReleased], tx: Connection) -> None:
    """Let payouts take their float from their waves'. One that has ended by now keeps none."""
    floats.take_of_waves(
        tx,
        [
            Reservation(
                saga_id=each.saga_id,
                short_code=each.short_code,
                amount_minor=each.amount_minor,
                wave_saga_id=each.wave_saga_id,
            )
            for each in events
        ],
    )
    rows = ENDED.rows(tx, {"saga_ids": sorted({each.saga_id for each in events})})
    floats.consume(tx, {row.saga_id for row in rows if row.state == "PAID"})
    floats.release(tx, {row.saga_id for row in rows if row.state == "FAILED"})


def on_failed(events: Sequence[DividendPayoutFailed], tx: Connection) -> None:
    """Give back the float of payouts whose sagas have failed, each once."""
    floats.release(tx, {each.saga_id for each in events})


def handlers(providers: Providers) -> tuple[Handler, ...]:
    """Return the step of waves, and the reactions to their payouts."""
    step = Step(
        name=RESERVE_WAVE,
        triggers=(dividend_wave.WAVE,),
        load=partial(load, providers),
        decide=decide,
        save=save,
        compensation=None,
    )
    return (
        step,
        Reaction(on=DividendPayoutReleased, sagas=payouts.DIVIDEND_PAYOUTS, apply=on_released),
        Reaction(on=DividendPayoutFailed, sagas=payouts.DIVIDEND_PAYOUTS, apply=on_failed),
    )


def _traffic(row: Any, is_paused: bool, is_slowed: bool) -> Traffic:
    return Traffic(
        under_way=0 if row is None else row.under_way,
        in_doubt=0 if row is None else row.in_doubt,
        ended=0 if row is None else row.ended,
        last_ended_at=None if row is None else row.last_ended_at,
        oldest_sent_at=None if row is None else row.oldest_sent_at,
        is_paused=is_paused,
        is_slowed=is_slowed,
    )
