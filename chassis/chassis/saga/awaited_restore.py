"""The awaited steps of a restored database, which take over what their service has published about them.

Nothing is sent and nothing is published again. Where an outcome is still open the provider is queried once the service
runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from chassis.saga import awaited
from chassis.saga.answers import Proven
from chassis.saga.attempt_rows import AwaitedStepRow, LoadedAttempts, StoredAttempt
from chassis.saga.attempts import Outcome
from chassis.saga.awaited import AwaitedEffect
from chassis.saga.awaited_decisions import Decided, evidence_of
from chassis.saga.awaited_steps import AwaitedSteps
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import OPEN, EffectState
from chassis.saga.evidence import Source
from chassis.saga.steps import AnyAwaited
from chassis.saga.unit_of_work import UnitOfWork


class RestoredSteps:
    """The awaited steps of one unit of work of a reconciliation."""

    def __init__(self, unit_of_work: UnitOfWork, rows: LoadedAttempts, steps: AwaitedSteps) -> None:
        self._unit_of_work = unit_of_work
        self._rows = rows
        self._steps = steps
        self._now = unit_of_work.now

    def find(self, step: AnyAwaited, saga_id: str) -> AwaitedEffect | None:
        """Return a step as the database has it, or None."""
        return self._steps.find((saga_id, step.name))

    def attempt(self, step: AnyAwaited, saga_id: str, number: int) -> StoredAttempt:
        """Return one attempt as the database has it. Raises IndexError where there is none."""
        return self._rows.stored((saga_id, step.name), number)

    def prepared(self, step: AnyAwaited, saga_id: str) -> object:
        """Return the request to the provider of a step that was begun, where a query needs it."""
        return self._steps.prepared(step, saga_id)

    def trigger(self, step: AnyAwaited, saga_id: str) -> RawMessage | None:
        """Return what triggered a step, as the database has it, or None."""
        row = self._rows.step((saga_id, step.name))
        return None if row is None else row.trigger

    def begin(
        self,
        step: AnyAwaited,
        saga_id: str,
        begun: Mapping[int, datetime],
        *,
        trigger: RawMessage | None,
        closing: bool = False,
    ) -> bool:
        """Take over these attempts, number to time, and return whether that is possible.

        It is not where neither the database nor the caller has the trigger. A step whose outcome is known stays as it
        is. Without attempts, those of the database are taken for sent until now.
        """
        key, before = (saga_id, step.name), self.find(step, saga_id)
        has_more = before is None or any(number > len(before.attempts) for number in begun)
        if before is not None and before.effect.state not in OPEN and not has_more:
            return True
        row = self._rows.step(key)
        if row is None:
            if trigger is None:
                return False
            row = AwaitedStepRow(
                saga_id=saga_id, step=step.name, trigger=trigger, query_at=self._now, queried_since=self._now
            )
        change = awaited.restored(
            saga_id,
            step.name,
            begun,
            calls_end_at=self._now + step.call.duration,
            before=before,
            closing=closing,
            cancels=step.policy.can_cancel,
        )
        self._rows.put_step(replace(row, query_at=self._now, queries=0, queried_since=self._now))
        self._unit_of_work.loaded.put(change.after.effect)
        self._rows.put(key, change.after.attempts)
        return True

    def settle(
        self, step: AnyAwaited, saga_id: str, state: EffectState, *, number: int, contradicts: bool, proof: Proven
    ) -> None:
        """Settle a step as its service has published; ``proof`` has the details for its rows."""
        before = self._begun(step, saga_id)
        evidence = evidence_of(number, proof)
        change = awaited.settled_as_published(before, state, evidence, contradicts=contradicts)
        self._steps.apply(Decided(step=step, before=before, change=change, proof=proof))

    def contradict(self, step: AnyAwaited, saga_id: str, number: int, proven: Outcome) -> bool:
        """Take over that evidence contradicts an attempt, and return whether that was new."""
        before = self.find(step, saga_id)
        if before is None:
            return False
        after = awaited.contradicted_as_published(before, number, proven)
        self._rows.put((saga_id, step.name), after.attempts)
        return after != before

    def judged(self, step: AnyAwaited, saga_id: str, proof: Proven) -> Proven:
        """Return what a proof means for what was requested."""
        return self._steps.judged(step, saga_id, proof)

    def prove(self, step: AnyAwaited, saga_id: str, number: int, proof: Proven) -> None:
        """Decide about what a provider proves now, and publish it where it contradicts what was published."""
        self._steps.prove(step, saga_id, number, proof, Source.QUERY)

    def _begun(self, step: AnyAwaited, saga_id: str) -> AwaitedEffect:
        before = self.find(step, saga_id)
        if before is None:
            raise LookupError(f"{step.name} of {saga_id} was not begun; restore its attempts first.")
        return before
