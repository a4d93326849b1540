"""Negative controls of awaited steps that schedules with returns break: the real code without one of its rules.

Most stand in the stead of the same decisions as in the exploration (:mod:`proof.awaited_controls`). The exploration has
its own model of calls, announcements and keys, so the rules about those are taken out of the chassis here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from chassis.saga import awaited, built_in_commands
from chassis.saga.announced_calls import AnnouncedCalls
from chassis.saga.answers import Accepted, Proven
from chassis.saga.attempts import AwaitedPolicy, Evidence, Outcome
from chassis.saga.awaited import AwaitedEffect, Change
from chassis.saga.awaited_steps import AwaitedSteps
from chassis.saga.effects import EffectState
from chassis.saga.evidence import Fate, Source
from chassis.saga.steps import AnyAwaited
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, AwaitedResult
from proof.awaited_controls import (
    late_success_ignored,
    not_found_is_failure,
    timeout_releases_the_hold,
)
from saga_tracker.model.facts import StepState
from shipping.parcels import ParcelEnd, Report


def calling_before_the_announcement(waiting: AnnouncedCalls, calls: Sequence[AwaitedPendingCall]) -> list[str]:
    """Begin every call about an attempt at once, whatever announces it."""
    return _add(waiting, [replace(call, after=None) for call in calls])


def failing_what_timed_out(
    row: AwaitedEffect, policy: AwaitedPolicy, *, now: datetime, deadline_at: datetime, lane_is_open: bool = True
) -> Change:
    """Take an attempt whose call has no answer for failed, and begin another one.

    Without the first, the index that lets a step have one live attempt refuses the second.
    """
    if row.effect.state is not EffectState.UNSURE or row.effect.closing or len(row.attempts) > 1:
        return _on_due(row, policy, now=now, deadline_at=deadline_at, lane_is_open=lane_is_open)
    failed = Evidence(attempt=row.effect.attempt, outcome=Outcome.FAILED)
    after = awaited.on_evidence(row, replace(policy, attempts_max=2), failed).after
    return _on_due(after, policy, now=now, deadline_at=deadline_at, lane_is_open=lane_is_open)


def taking_an_acknowledgement_for_an_outcome(
    steps: AwaitedSteps, step: AnyAwaited, result: AwaitedResult
) -> Fate | None:
    """Take an accepted collection for a parcel that has ended."""
    call, answer = result.call, result.answer
    if not isinstance(answer, Accepted):
        return _settle(steps, step, result)
    proof = Proven(
        outcome=Outcome.SUCCEEDED,
        provider_id=answer.provider_id,
        reference=answer.provider_id,
        detail=Report(end=ParcelEnd.LOST).detail,
    )
    return steps.prove(step, call.saga_id, call.number, proof, Source.QUERY)


def drawing_keys(waiting: AnnouncedCalls, calls: Sequence[AwaitedPendingCall]) -> list[str]:
    """Send an attempt under another key each time."""
    drawn = [
        replace(call, key=f"{call.key}:{random.getrandbits(64)}") if call.act is AwaitedAct.SEND else call
        for call in calls
    ]
    return _add(waiting, drawn)


_add = AnnouncedCalls.add
_settle = AwaitedSteps.settle
_on_due = awaited.on_due

OF_RETURNS: Mapping[str, tuple[Any, str, Any]] = {
    "timeout-is-failure": (awaited, "on_due", timeout_releases_the_hold),
    "new-key-on-timeout": (awaited, "on_due", failing_what_timed_out),
    "late-success-ignored": (awaited, "on_evidence", late_success_ignored),
    "acknowledgement-is-outcome": (AwaitedSteps, "settle", taking_an_acknowledgement_for_an_outcome),
    "fenced-while-sent": (built_in_commands, "IN_DOUBT", StepState.FENCED.value),
    "not-found-is-failure": (awaited, "on_not_found", not_found_is_failure),
    "call-before-publishing": (AnnouncedCalls, "add", calling_before_the_announcement),
    "drawn-keys": (AnnouncedCalls, "add", drawing_keys),
}
"""By name: the module or class, its attribute, and what stands in its stead."""
