"""A saga while a transaction works on it: its row, its definition, and what follows from its facts.

In this package only this module decides and merges facts. The proof's negative controls replace both functions here.
It must never do I/O or read a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from saga_tracker.model.decision import FENCE, Decision, Phase
from saga_tracker.model.facts import Fact, Progress, merge
from saga_tracker.model.operating import admits, admitted, is_late, marked
from saga_tracker.model.progress import decide
from saga_tracker.model.saga import Definitions, SagaDefinition
from saga_tracker.store.dead_letters import EndedSaga
from saga_tracker.store.sagas import SagaRow
from saga_tracker.store.timeline import Entry

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class TrackedSaga:
    """A saga's row with the definition that it follows.

    ``cause`` is the id of the message, timer or act that leads to what is sent next, ``trace`` its trace context.
    """

    row: SagaRow
    definition: SagaDefinition
    cause: str | None = None
    trace: str | None = None

    @property
    def decision(self) -> Decision:
        """What follows from everything that is known of the saga."""
        return decide(self.definition, self.row.progress)

    def add(self, fact: Fact) -> None:
        """Add a fact to what is known of the saga; a contradiction after its end becomes a mark."""
        known = self.row.progress
        self.row.progress = merge(known, admitted(self.definition, known, fact) or fact)

    def refuses(self, fact: Fact) -> bool:
        """Return whether a fact must not be added: a cancellation after the end of the saga.

        A cancellation that was accepted before stays accepted when it is delivered again.
        """
        return not admits(self.definition, self.row.progress, fact) and self.lacks(fact)

    def lacks(self, fact: Fact) -> bool:
        """Return whether a fact would add to what is known of the saga."""
        return merge(self.row.progress, fact) != self.row.progress

    def is_late(self, fact: Fact) -> bool:
        """Return whether a fact reports a success that was unknown when the saga was stopped."""
        return is_late(self.definition, self.row.progress, fact)

    def awaited_deadline(self, entry: Entry) -> datetime | None:
        """Return the deadline that this message meets or misses; None where the saga did not wait for it."""
        awaited = entry.step or (FENCE if entry.kind == "reply" else None)
        waiting = self.row.waiting
        is_awaited = awaited is not None and waiting is not None and waiting.startswith(f"{awaited} ")
        return self.row.deadline_at if is_awaited else None

    def apply(self, decision: Decision, now: datetime) -> bool:
        """Write a decision into the row, and return whether the saga ends with it. While it is pending, it does not.

        The deadline stays as it is while the saga waits for the same.
        """
        row = self.row
        ends = decision.phase is Phase.ENDED and row.finished_at is None and row.pending is None
        row.state, row.phase, row.step = decision.state.value, decision.phase.value, decision.step
        row.cause = decision.failure.cause.value if decision.failure else None
        row.reason = decision.reason
        if ends:
            row.finished_at = now
        if row.finished_at is not None:
            row.progress = marked(row.progress)
        row.parked_at = (row.parked_at or now) if decision.parked is not None else None
        row.awaits_since = (row.awaits_since or now) if decision.awaits_evidence else None
        row.contradicted_at, row.settled_at, row.settled_by = _contradiction(row.progress)
        waiting = decision.waiting
        if waiting is None:
            row.waiting = row.deadline_at = None
        elif waiting.key != row.waiting:
            row.waiting = waiting.key
            row.deadline_at = now + timedelta(seconds=waiting.timeout_s)
        return ends


def _contradiction(progress: Progress) -> tuple[datetime | None, datetime | None, str | None]:
    """Return since when the saga is contradicted, and when and by whom all of it was settled; None: not."""
    if not progress.to_settle:
        return None, None, None
    settled_at, by, _ = (None, None, None) if progress.unsettled else max(progress.settled.values())
    return min(progress.to_settle.values()), settled_at, by


def track(definitions: Definitions, rows: Iterable[SagaRow]) -> list[TrackedSaga]:
    """Return these sagas with their definitions. One whose definition this release lacks is logged and left out."""
    tracked = []
    for row in rows:
        definition = definitions.get((row.saga_type, row.saga_version))
        if definition is None:
            log.error("This release lacks the definition of a saga.", saga_id=row.saga_id)
            continue
        tracked.append(TrackedSaga(row=row, definition=definition))
    return tracked


def with_letters(sagas: Collection[TrackedSaga]) -> list[EndedSaga]:
    """Return those of these sagas, which have ended, of which a service could not read a message."""
    return [
        EndedSaga(
            saga_id=saga.row.saga_id,
            reacting=saga.definition.reacting_services,
            fenced=saga.row.progress.fenced_services,
        )
        for saga in sagas
        if saga.row.progress.unresolved_letters or saga.row.progress.unprocessable
    ]
