"""The saga that posts a part of a declared dividend run: 500 lines at most in one transaction."""

from __future__ import annotations

from messages.ledger import DividendChunkPosted
from messages.members import DividendChunkReleased
from messages.saga import DividendChunkCompleted, DividendChunkFailed
from saga_tracker.model.saga import (
    Exhausted,
    ReferenceDefinition,
    SagaDefinition,
    StepDefinition,
    StepKind,
    SubjectDefinition,
)

DIVIDEND_CHUNK_V1 = SagaDefinition(
    name="dividend_chunk",
    version=1,
    started_by=DividendChunkReleased,
    subject=SubjectDefinition(field="run_id", kind="run"),
    cancelled_by={},
    steps=(
        StepDefinition(
            name="post_dividends",
            service="ledger",
            trigger=DividendChunkReleased,
            succeeds_with=DividendChunkPosted,
            kind=StepKind.PIVOT,
            timeout_s=60,
            exhausted=Exhausted.PARK,
        ),
    ),
    completed_by=DividendChunkCompleted,
    failed_by=DividendChunkFailed,
    reply_timeout_s=30,
    command_attempts_max=5,
    deadline_s=60,
    references=(ReferenceDefinition(kind="dividend_run", event=DividendChunkReleased, field="run_id"),),
)
