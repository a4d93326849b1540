"""The awaited steps of one unit of work: their attempts are begun, queried, settled by evidence, and closed.

What follows from what is decided in :mod:`chassis.saga.awaited`; this module loads, saves and plans. Like all of a unit
of work it makes no call itself: the host makes it after the commit, and that of a new attempt only once Kafka has its
StepAwaited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from chassis.http.downstream import NotTried, TooLate
from chassis.saga import awaited
from chassis.saga.answers import Accepted, NotFound, Proven, Settlement
from chassis.saga.attempt_rows import AwaitedStepRow, LoadedAttempts, may_be
from chassis.saga.attempts import Outcome
from chassis.saga.awaited import Act, AwaitedEffect
from chassis.saga.awaited_acts import AwaitedActs, row_of
from chassis.saga.awaited_decisions import Decided, evidence_of, rescheduled, unsent, waiting
from chassis.saga.deferred import RawMessage
from chassis.saga.effects import OPEN, EffectState
from chassis.saga.evidence import Fate, Source, StoredEvidence
from chassis.saga.lanes import Lanes
from chassis.saga.missing import cover_of
from chassis.saga.steps import AnyAwaited, AnyAwaitedStep, AwaitedStep, AwaitedStray, AwaitedUndo, answer, request_of
from chassis.saga.triggers import StepKey, StepRequest
from chassis.saga.unit_of_work import AwaitedAct, AwaitedResult, Delivery, UnitOfWork
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id

AGAIN_AFTER_ERROR = timedelta(minutes=1)
"""How long a step, or a piece of evidence, waits at which a handler of ours has failed."""


class AwaitedSteps:
    """The awaited steps in one unit of work."""

    def __init__(self, tx: Connection, unit_of_work: UnitOfWork, rows: LoadedAttempts, codec: Codec) -> None:
        self._tx = tx
        self._unit_of_work = unit_of_work
        self._effects = unit_of_work.loaded
        self._rows = rows
        self._now = unit_of_work.now
        self._acts = AwaitedActs(tx, unit_of_work, rows, codec)
        self._unrecorded: dict[str, tuple[AnyAwaitedStep, list[tuple[StepRequest, Settlement]]]] = {}
        self._lanes = Lanes(tx)

    def start(self, step: AnyAwaitedStep, group: Sequence[Delivery]) -> None:
        """Begin the first attempt for these triggers; one whose effect exists does nothing. All of them are handled."""
        for each in group:
            if self._effects.may_run(each.message.saga_id, step.name):
                self._begin(step, each.message.saga_id, each.raw)
        self._unit_of_work.mark_handled(step.name, group)

    def begin_undo(self, undo: AwaitedUndo, delivery: Delivery) -> None:
        """Begin the undo of a step for this command. One that is begun goes on; a ladder that has ended begins anew."""
        saga_id = delivery.message.saga_id
        row = self._rows.step((saga_id, undo.name))
        if row is not None:
            if row.query_at is None:
                self.resume(undo, saga_id, row.redrive + 1)
            return
        self._begin(undo, saga_id, delivery.raw)

    def due(self, step: AnyAwaited, saga_id: str) -> None:
        """Do what the ladder says now: query, send the same attempt again, or begin the next one."""
        key = (saga_id, step.name)
        row, before = self._rows.step(key), self.find(key)
        if row is None or before is None or row.query_at is None or row.query_at > self._now:
            return
        deadline_at = self._unit_of_work.deadline_of(step)
        is_open = self._lanes.is_open(step, before.effect.state, self._acts.trigger(key))
        change = awaited.on_due(before, step.policy, now=self._now, deadline_at=deadline_at, lane_is_open=is_open)
        self.apply(Decided(step=step, before=before, change=change), is_due=True)

    def settle(self, step: AnyAwaited, result: AwaitedResult) -> Fate | None:
        """Take the answer to a call about an attempt. Without one nothing is known, and the ladder goes on."""
        call = result.call
        key = (call.saga_id, step.name)
        before = self.find(key)
        if before is None or before.attempt(call.number) is None:
            return None
        if result.failure is not None:
            if call.act is AwaitedAct.SEND and isinstance(result.failure, NotTried):
                # The call of this very send was too late. A later send of the same attempt may be under way.
                is_over = isinstance(result.failure, TooLate) and call.deadline_at == before.effect.deadline_at
                change = unsent(before, call.number, again_at=self._now if is_over else None)
                self.apply(Decided(step=step, before=before, change=change))
                self._rows.put_step(waiting(row_of(self._rows, key), before, call.number, self._now, result.failure))
            return None
        match result.answer:
            case Accepted() as accepted:
                self._accept(step, before, call.number, accepted)
            case NotFound():
                change = awaited.on_not_found(before, step.policy, call.number)
                self.apply(Decided(step=step, before=before, change=change))
            case Proven() as proof:
                return self.prove(step, call.saga_id, call.number, proof, Source.QUERY)
            case None:
                raise TypeError(f"{step.name} got no answer and no failure from its call; its adapter returned None.")
        return None

    def prepared(self, step: AnyAwaited, saga_id: str) -> object:
        """Return the request to the provider of a step that was begun, where a query needs it."""
        return self._acts.prepared(step, saga_id) if step.call.takes_request else None

    def _accept(self, step: AnyAwaited, before: AwaitedEffect, number: int, accepted: Accepted) -> None:
        """Record that an attempt arrived, and publish its reference where that is new."""
        is_new = self._remember(before.effect.saga_id, step.name, number, accepted.provider_id)
        decided = Decided(step=step, before=before, change=awaited.on_accepted(before, number))
        self.apply(decided)
        is_sent = decided.effect.state is EffectState.SENT and number == decided.effect.attempt
        is_first = before.effect.state is not EffectState.SENT
        if accepted.reference and is_sent and (is_new or is_first):
            self._acts.accept(decided, accepted.reference)
        if accepted.is_ready and is_sent and is_first and not decided.effect.closing:
            self._acts.carry_out(decided, Act.QUERY)

    def take(self, step: AnyAwaited, piece: StoredEvidence) -> Fate | None:
        """Decide about a stored piece of evidence; None where it is about another attempt than it was matched to.

        It was matched by our key before the provider's own id of the attempt was known, and names another one.
        """
        if piece.outcome is Outcome.ABSENT:
            return self._miss(step, piece)
        attempt = self._rows.known((piece.saga_id, step.name), piece.number)
        if attempt is not None and not may_be(attempt.provider_id, piece.provider_id):
            return None
        proof = Proven(
            outcome=piece.outcome, provider_id=piece.provider_id, reference=piece.reference, detail=piece.detail
        )
        return self.prove(step, piece.saga_id, piece.number, proof, piece.source)

    def _miss(self, step: AnyAwaited, piece: StoredEvidence) -> Fate:
        """Decide about a statement that does not show an attempt. Without what it covers it proves nothing."""
        before, cover = self.find((piece.saga_id, step.name)), cover_of(piece.detail)
        if before is None:
            raise LookupError(f"{step.name} of {piece.saga_id} was not begun; keep the statement as an orphan.")
        if cover is None:
            return Fate.REPEATED
        change = awaited.on_missing(before, step.policy, piece.number, cover)
        self.apply(Decided(step=step, before=before, change=change, source=piece.source))
        return Fate.REPEATED if change.after == before else Fate.SETTLED

    def prove(self, step: AnyAwaited, saga_id: str, number: int, proof: Proven, source: Source) -> Fate:
        """Decide about what is proven of an attempt. Raises LookupError where there is no such attempt."""
        before = self.find((saga_id, step.name))
        if before is None:
            raise LookupError(f"{step.name} of {saga_id} was not begun; keep the evidence as an orphan.")
        proof = self.judged(step, saga_id, proof)
        self._remember(saga_id, step.name, number, proof.provider_id)
        change = awaited.on_evidence(before, step.policy, evidence_of(number, proof))
        self.apply(Decided(step=step, before=before, change=change, proof=proof, source=source))
        if Act.CONTRADICT in change.acts:
            return Fate.CONTRADICTED
        return Fate.REPEATED if change.after == before else Fate.SETTLED

    def judged(self, step: AnyAwaited, saga_id: str, proof: Proven) -> Proven:
        """Return what a proof means for what was requested of a step that was begun."""
        if not isinstance(step, AwaitedStep) or step.judge is None:
            return proof
        judged: Proven = step.judge(request_of(step, self._acts.trigger((saga_id, step.name))), proof)
        return judged

    def close(self, step: AnyAwaited, saga_id: str) -> None:
        """Let the step send nothing any more: its saga is being fenced, or the step compensated."""
        before = self.find((saga_id, step.name))
        if before is not None:
            change = awaited.on_fenced(before, step.policy)
            self.apply(Decided(step=step, before=before, change=change))

    def resume(self, step: AnyAwaited, saga_id: str, redrive: int) -> None:
        """Begin the ladder anew, now. A redrive settles nothing and makes no attempt."""
        row = self._rows.step((saga_id, step.name))
        if row is not None and row.redrive < redrive:
            anew = replace(row, query_at=self._now, queries=0, queried_since=self._now, redrive=redrive)
            self._rows.put_step(anew)

    def postpone(self, key: StepKey) -> None:
        """Try again later what the ladder leads to: a handler of ours failed at it."""
        row = self._rows.step(key)
        if row is not None and row.query_at is not None:
            self._rows.put_step(replace(row, query_at=self._now + AGAIN_AFTER_ERROR))

    def find(self, key: StepKey) -> AwaitedEffect | None:
        """Return a step as the batch has left it so far; None where it was not begun."""
        effect = self._effects.get(*key)
        if effect is None or self._rows.step(key) is None:
            return None
        return AwaitedEffect(effect=effect, attempts=self._rows.attempts(key))

    def _remember(self, saga_id: str, step: str, number: int, provider_id: str | None) -> bool:
        """Keep the provider's own id of an attempt, and return whether it is new. The first one stays."""
        stored = self._rows.known((saga_id, step), number)
        if provider_id is None or stored is None or stored.provider_id is not None:
            return False
        key = (saga_id, step)
        self._rows.put(key, self._rows.attempts(key), provider_ids={number: provider_id})
        return True

    def apply(self, decided: Decided, *, is_due: bool = False) -> None:
        """Take over a decision, and plan what must follow it.

        1. The effect and the attempts are as it says.
        2. A step that it settles is published where that is due, and recorded by :meth:`flush`.
        3. Calls are planned, commands woken, a contradiction published; :meth:`flush` prepares the calls.
        4. The ladder goes on from what the step is now.
        """
        # 1.
        effect, before = decided.effect, decided.before
        self._effects.put(effect)
        self._rows.put(decided.key, decided.change.after.attempts)
        # 2.
        was_open = before is not None and before.effect.state in {*OPEN, EffectState.PAUSED}
        if was_open and effect.state in (EffectState.DONE, EffectState.REJECTED):
            self._record(decided)
        # 3.
        for act in decided.change.acts:
            self._acts.carry_out(decided, act)
        if Act.UNDO_ATTEMPT in decided.change.acts:
            self._undo_stray(decided)
        # 4.
        self._reschedule(decided, is_due=is_due)

    def flush(self) -> None:
        """Record what was settled, then prepare the calls that were planned, each step once for all of its sagas.

        The steps come in one order in every batch: what they lock, they lock in that order.
        """
        for _, (step, settled) in sorted(self._unrecorded.items(), key=lambda item: item[0]):
            rows = step.load([request for request, _ in settled], self._tx)
            for request, settlement in settled:
                step.record(request, settlement, rows)
            step.save(rows, self._tx)
        self._unrecorded.clear()
        self._acts.prepare()

    def _record(self, decided: Decided) -> None:
        step, effect, trigger = decided.step, decided.effect, self._acts.trigger(decided.key)
        if isinstance(step, AwaitedUndo):
            return  # The command that waits for it is woken, and finishes the compensation.
        if isinstance(step, AwaitedStray):
            if effect.state is EffectState.REJECTED:
                self._acts.call_person(decided)
            return
        settled = self._unrecorded.setdefault(step.name, (step, []))[1]
        settled.append((request_of(step, trigger), decided.settlement))
        message_id = derived_id(effect.saga_id, effect.step, "outcome")
        envelope = self._unit_of_work.reply_envelope(trigger, message_id)
        event, state = answer(step, trigger, decided.settlement, envelope)
        if state is not effect.state:
            raise TypeError(f"{step.name} is {effect.state}, but its trigger publishes {state}; compare its publish.")
        if Act.PUBLISH in decided.change.acts:
            self._unit_of_work.emit(event, row_of(self._rows, decided.key).trigger)

    def _undo_stray(self, decided: Decided) -> None:
        """Undo an attempt whose success belongs to no step. Where no call does that, a person is called."""
        step = decided.step
        if not isinstance(step, AwaitedStep) or step.undo_stray is None:
            self._acts.call_person(decided)
            return
        stray = AwaitedStray(of=step, number=decided.number)
        if self._rows.step((decided.effect.saga_id, stray.name)) is None:
            self._begin(stray, decided.effect.saga_id, row_of(self._rows, decided.key).trigger)

    def _begin(self, step: AnyAwaited, saga_id: str, trigger: RawMessage) -> None:
        deadline_at = self._unit_of_work.deadline_of(step)
        row = AwaitedStepRow(
            saga_id=saga_id, step=step.name, trigger=trigger, query_at=deadline_at, queried_since=self._now
        )
        self._rows.put_step(row)
        change = awaited.triggered(saga_id, step.name, now=self._now, deadline_at=deadline_at)
        self.apply(Decided(step=step, before=None, change=change))

    def _reschedule(self, decided: Decided, *, is_due: bool) -> None:
        """Let the ladder go on. Where it ends a person is called; evidence still settles the step."""
        before = row_of(self._rows, decided.key)
        after = rescheduled(decided, before, now=self._now, is_due=is_due)
        self._rows.put_step(after)
        if before.query_at is not None and after.query_at is None and decided.is_open:
            days = (self._now - after.queried_since).total_seconds() / 86_400
            reason = f"its provider was queried {after.queries} times in {days:.0f} days"
            attempt = decided.effect.attempt
            self._unit_of_work.dead_letter(after.trigger, decided.owner, reason, attempt, redrive=after.redrive)
