"""The saga of the gate of a dividend run: it reserves the float of one wave of payouts, or refuses it for now."""

from __future__ import annotations

from messages.members import DividendWaveRequested
from messages.mobile_money import WaveRefused, WaveReserved
from messages.saga import DividendWaveCompleted, DividendWaveFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

DIVIDEND_WAVE_V1 = SagaDefinition(
    name="dividend_wave",
    version=1,
    started_by=DividendWaveRequested,
    subject=SubjectDefinition(field="run_id", kind="run"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="reserve_wave",
            service="mobile-money",
            trigger=DividendWaveRequested,
            succeeds_with=WaveReserved,
            rejected_with=WaveRefused,
            kind=StepKind.PIVOT,
            timeout_s=30,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=DividendWaveCompleted,
    failed_by=DividendWaveFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=30,
    references=(ReferenceDefinition(kind="dividend_run", event=DividendWaveRequested, field="run_id"),),
)
