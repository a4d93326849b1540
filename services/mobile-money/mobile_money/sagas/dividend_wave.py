"""The saga of a wave of dividends: what it asks of the float, and its event."""

from __future__ import annotations

from typing import Final

from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.members import DividendWaveRequested
from messages.mobile_money import WaveRefused, WaveReserved
from mobile_money.domain import Verdict
from mobile_money.step_requests import ReserveWave


def _read(event: DividendWaveRequested, step: str) -> ReserveWave:
    return ReserveWave(
        saga_id=event.saga_id,
        step=step,
        short_code=event.short_code,
        amount_minor=event.amount_minor,
        charge_minor=event.charge_minor,
        payouts=event.payouts,
    )


def _publish(event: DividendWaveRequested, verdict: Verdict, envelope: Envelope) -> WaveReserved | WaveRefused:
    if verdict.reason is None:
        return WaveReserved(**envelope, run_id=event.run_id, wave=event.wave, amount_minor=event.amount_minor)
    return WaveRefused(**envelope, run_id=event.run_id, wave=event.wave, reason=verdict.reason, detail=verdict.detail)


WAVE: Final = SagaTrigger(
    saga="dividend_wave",
    versions=(1,),
    on=DividendWaveRequested,
    read=_read,
    publish=_publish,
    succeeds_with=WaveReserved,
    rejected_with=WaveRefused,
)
